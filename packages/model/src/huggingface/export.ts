/** A `ModelConfig` as a Hugging Face `config.json`. What a layout cannot say is refused, with the reason. */

import { diffConfigs, SluiceError } from '@sluice/core';
import type { ModelConfig } from '../config.ts';
import { interleavedGate } from '../gates/gate.ts';
import { importModelConfig } from './import.ts';
import type { HuggingFaceLayout } from './layouts.ts';
import { exportRopeScaling } from './rope.ts';

export interface ExportOptions {
  readonly layout: HuggingFaceLayout;
  /** Longest sequence that the model is meant for: `max_position_embeddings`. */
  readonly maxLength: number;
  /** As PyTorch calls it: float32, bfloat16, float16. */
  readonly torchDtype: string;
}

/** The layout that says the most of a model. */
export function defaultLayout(model: ModelConfig): HuggingFaceLayout {
  if (model.experts) return 'qwen3-moe';
  return interleavedGate(model) === 'none' && model.qkNorm ? 'qwen3' : 'gated';
}

/** Settings of training, which are no part of the architecture; `config.json` has no place for all of them. */
const TRAINING_KEYS = ['experts.balanceCoefficient', 'experts.zCoefficient', 'initializerRange'];

/** @throws SLUICE_E_HF_UNSUPPORTED with all reasons */
export function exportModelConfig(model: ModelConfig, options: ExportOptions): Record<string, unknown> {
  const { layout, maxLength, torchDtype } = options;
  const reasons = refusals(model, layout);
  if (reasons.length > 0) throw unsupported(layout, reasons);
  const config = {
    ...CLASSES[layout],
    vocab_size: model.vocabularySize,
    hidden_size: model.hiddenSize,
    num_hidden_layers: model.numLayers,
    num_attention_heads: model.numAttentionHeads,
    num_key_value_heads: model.numKeyValueHeads,
    head_dim: model.headDim,
    hidden_act: 'silu',
    max_position_embeddings: maxLength,
    initializer_range: model.initializerRange,
    rms_norm_eps: model.rmsNormEps,
    rope_theta: model.ropeTheta,
    rope_scaling: exportRopeScaling(model.ropeScaling),
    tie_word_embeddings: model.tieWordEmbeddings,
    attention_bias: false,
    attention_dropout: 0,
    use_sliding_window: false,
    torch_dtype: torchDtype,
    ...(model.experts ? expertKeys(model.experts) : { intermediate_size: model.intermediateSize }),
    ...(layout === 'gated' ? gateKeys(model) : {}),
  };
  checkMeaning(model, layout, config);
  return config;
}

const CLASSES: Readonly<Record<HuggingFaceLayout, object>> = {
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
    use_qk_norm: model.qkNorm,
    qkv_bias: false,
  };
}

/** What a layout is known not to have. */
function refusals(model: ModelConfig, layout: HuggingFaceLayout): string[] {
  const { experts, qkNorm } = model;
  const gate = interleavedGate(model);
  const reasons: string[] = [];
  const isExpertLayout = layout === 'qwen3-moe' || layout === 'qwen3-moe-fused';
  if (experts && !isExpertLayout) reasons.push('a mixture of experts (use the layout qwen3-moe)');
  if (!experts && isExpertLayout) reasons.push('a dense feed-forward layer (use the layout qwen3 or gated)');
  if (layout !== 'gated') {
    const instead = experts ? 'no layout has both a gate and experts' : 'use the layout gated';
    if (gate !== 'none') reasons.push(`the ${gate} gate after attention (${instead})`);
    if (!qkNorm) reasons.push('queries and keys without a norm');
  }
  if (experts && experts.sharedIntermediateSize > 0) reasons.push('a shared expert');
  return reasons;
}

/** Whatever the model has beyond that must come back when the configuration is read; otherwise it was not said. */
function checkMeaning(model: ModelConfig, layout: HuggingFaceLayout, config: Record<string, unknown>): void {
  const { model: read } = importModelConfig(config, 'the exported configuration');
  const lost = diffConfigs(model, read).filter(({ key }) => !TRAINING_KEYS.includes(key));
  if (lost.length > 0)
    throw unsupported(
      layout,
      lost.map(({ key, before }) => `model.${key} = ${JSON.stringify(before)}`),
    );
}

function unsupported(layout: HuggingFaceLayout, reasons: readonly string[]): SluiceError {
  return new SluiceError(
    'SLUICE_E_HF_UNSUPPORTED',
    `The Hugging Face layout ${layout} has no way to say: ${reasons.join('; ')}.`,
    { details: { layout, reasons } },
  );
}
