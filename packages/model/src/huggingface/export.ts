/** A `ModelConfig` as a Hugging Face `config.json`. What a layout cannot say is refused, with the reason. */

import { diffConfigs, SluiceError } from '@sluice/core';
import type { ModelConfig } from '../config.ts';
import { interleavedGate } from '../gates/gate.ts';
import { layerModels } from '../layers.ts';
import { activeMixer } from '../mixers/index.ts';
import { FAMILIES, familyOf } from './families/index.ts';
import { writtenCommon } from './families/written.ts';
import { importModelConfig } from './import.ts';
import type { HuggingFaceLayout, PlainLayout } from './layouts.ts';
import { exportRopeScaling } from './rope.ts';

export interface ExportOptions {
  readonly layout: HuggingFaceLayout;
  /** Longest sequence that the model is meant for: `max_position_embeddings`. */
  readonly maxLength: number;
  /** As PyTorch calls it: float32, bfloat16, float16. */
  readonly torchDtype: string;
}

/** The first layout that can say what a model is; of one that none can say, the one that comes nearest. */
export function defaultLayout(model: ModelConfig): HuggingFaceLayout {
  const nearest = nearestLayout(model);
  const options = { maxLength: 1, torchDtype: 'float32' };
  const families = FAMILIES.map(({ layout }) => layout);
  const all: readonly HuggingFaceLayout[] = [nearest, ...families];
  const fitting = all.filter((layout) => isSaid(model, { ...options, layout }));
  return fitting.find((layout) => adaptationNotes(model, layout).length === 0) ?? fitting[0] ?? nearest;
}

function nearestLayout(model: ModelConfig): HuggingFaceLayout {
  const isGated = interleavedGate(model) !== 'none';
  if (model.experts) return isGated ? 'qwen3-next' : 'qwen3-moe';
  return isGated || !model.qkNorm ? 'gated' : 'qwen3';
}

/** What of a model is written otherwise in a layout, with the same meaning: a sentence each. */
export function adaptationNotes(model: ModelConfig, layout: HuggingFaceLayout): readonly string[] {
  return familyOf(layout)?.adapt?.(model)?.notes ?? [];
}

function isSaid(model: ModelConfig, options: ExportOptions): boolean {
  try {
    exportModelConfig(model, options);
    return true;
  } catch (error) {
    if (error instanceof SluiceError) return false;
    throw error;
  }
}

/** Settings of training, which are no part of the architecture; `config.json` has no place for all of them. */
const TRAINING_KEYS = ['experts.balanceCoefficient', 'experts.zCoefficient', 'initializerRange'];

/** @throws SLUICE_E_HF_UNSUPPORTED with all reasons */
export function exportModelConfig(model: ModelConfig, options: ExportOptions): Record<string, unknown> {
  const { layout, maxLength, torchDtype } = options;
  const family = familyOf(layout);
  if (family) {
    const said = family.adapt?.(model)?.model ?? model;
    const written = {
      architectures: [family.architectures[0]],
      model_type: family.modelTypes[0],
      max_position_embeddings: maxLength,
      ...family.write(said),
      dtype: torchDtype,
    };
    checkMeaning(said, layout, written);
    return written;
  }
  const reasons = refusals(model, layout as PlainLayout);
  if (reasons.length > 0) throw unsupported(layout, reasons);
  const config = {
    ...CLASSES[layout as PlainLayout],
    ...writtenCommon(model),
    hidden_act: 'silu',
    max_position_embeddings: maxLength,
    rms_norm_eps: model.rmsNormEps,
    rope_theta: model.ropeTheta,
    rope_scaling: exportRopeScaling(model.ropeScaling),
    use_sliding_window: false,
    torch_dtype: torchDtype,
    ...(model.experts ? expertKeys(model.experts) : { intermediate_size: model.intermediateSize }),
    ...(layout === 'gated' ? gateKeys(model) : {}),
  };
  checkMeaning(model, layout, config);
  return config;
}

const CLASSES: Readonly<Record<PlainLayout, object>> = {
  gated: {
    architectures: ['Qwen3ForCausalLM'],
    // The files of the paper's repository, to be put beside the weights.
    auto_map: {
      AutoConfig: 'configuration_qwen3.Qwen3Config',
      AutoModelForCausalLM: 'modeling_qwen3.Qwen3ForCausalLM',
    },
    model_type: 'qwen2',
  },
  qwen3: { architectures: ['Qwen3ForCausalLM'], model_type: 'qwen3' },
  'qwen3-moe': { architectures: ['Qwen3MoeForCausalLM'], model_type: 'qwen3_moe' },
  'qwen3-moe-fused': { architectures: ['Qwen3MoeForCausalLM'], model_type: 'qwen3_moe' },
};

function expertKeys(experts: NonNullable<ModelConfig['experts']>): object {
  return {
    num_experts: experts.count,
    num_experts_per_tok: experts.topK,
    moe_intermediate_size: experts.intermediateSize,
    norm_topk_prob: experts.normalizeTopK,
    router_aux_loss_coef: experts.balanceCoefficient,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
  };
}

function gateKeys(model: ModelConfig): object {
  const gate = interleavedGate(model);
  return {
    headwise_attn_output_gate: gate === 'headwise',
    elementwise_attn_output_gate: gate === 'elementwise',
    use_qk_norm: model.qkNorm !== false,
    qkv_bias: false,
  };
}

/** What a layout is known not to have. */
function refusals(model: ModelConfig, layout: PlainLayout): string[] {
  const { experts, qkNorm } = model;
  const gate = interleavedGate(model);
  const reasons: string[] = [];
  const isExpertLayout = layout === 'qwen3-moe' || layout === 'qwen3-moe-fused';
  if (experts && !isExpertLayout) reasons.push('a mixture of experts (use the layout qwen3-moe)');
  if (!experts && isExpertLayout) reasons.push('a dense feed-forward layer (use the layout qwen3 or gated)');
  if (layout !== 'gated') {
    const instead = experts ? 'use the layout qwen3-next' : 'use the layout gated';
    if (gate !== 'none') reasons.push(`the ${gate} gate after attention (${instead})`);
    if (!qkNorm) reasons.push('queries and keys without a norm');
  }
  if (experts && experts.sharedIntermediateSize > 0)
    reasons.push('a shared expert (use the layout qwen3-next)');
  return reasons;
}

/** Whatever the model has beyond that must come back when the configuration is read; otherwise it was not said. */
function checkMeaning(model: ModelConfig, layout: HuggingFaceLayout, config: Record<string, unknown>): void {
  const lost = lostSettings(model, importedAgain(config, layout));
  if (lost.length > 0) throw unsupported(layout, lost);
}

/** What a layout has no key for at all makes a configuration that cannot even be read. */
function importedAgain(config: Record<string, unknown>, layout: HuggingFaceLayout): ModelConfig {
  try {
    return importModelConfig(config, 'the exported configuration').model;
  } catch (error) {
    const reasons = error instanceof SluiceError && (error.details?.reasons ?? error.details?.issues);
    if (!Array.isArray(reasons)) throw error;
    throw unsupported(layout, reasons);
  }
}

/** A sentence for each setting of a model, or of one of its layers, that another one has otherwise. */
function lostSettings(model: ModelConfig, read: ModelConfig): string[] {
  const lost = new Map<string, string>();
  const readLayers = layerModels(read);
  for (const [layer, own] of layerModels(model).entries()) {
    const other = readLayers[layer] ?? read;
    for (const { key, before } of diffConfigs(comparable(own), comparable(other))) {
      if (TRAINING_KEYS.includes(key) || lost.has(key)) continue;
      const where = model.layers && layer > 0 ? ` of layer ${layer}` : '';
      lost.set(key, `model.${key} = ${JSON.stringify(before)}${where}`);
    }
  }
  return [...lost.values()];
}

/** Without what a model starts from, and what is not given. */
function comparable(model: ModelConfig): object {
  const controls = model.controls.map((control) =>
    'initialGain' in control ? { ...control, initialGain: 'one' } : control,
  );
  const { experts, mixer } = model;
  const balanceBias = experts?.balanceBias && { ...experts.balanceBias, rate: 0 };
  const own = activeMixer(model)
    ? {
        ...{ mixer: { ...mixer, initialDecay: undefined }, numAttentionHeads: 0 },
        // What concerns attention alone.
        ...{
          ropeTheta: 0,
          ropeScaling: undefined,
          rotaryDim: undefined,
          positions: undefined,
          window: undefined,
        },
      }
    : {};
  return JSON.parse(
    JSON.stringify({ ...model, ...own, controls, ...(experts && { experts: { ...experts, balanceBias } }) }),
  );
}

function unsupported(layout: HuggingFaceLayout, reasons: readonly string[]): SluiceError {
  return new SluiceError(
    'SLUICE_E_HF_UNSUPPORTED',
    `The Hugging Face layout ${layout} has no way to say: ${reasons.join('; ')}.`,
    { details: { layout, reasons } },
  );
}
