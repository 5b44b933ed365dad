/**
 * A Hugging Face `config.json` as a `ModelConfig`: every key is honoured, known to change nothing, or refused, all of them at
 * once.
 */

import { SluiceError } from '@sluice/core';
import { z } from 'zod';
import { ModelConfig } from '../config.ts';
import { judgeKeys } from './configKeys.ts';
import { FAMILIES, familyOf, familyOfType, familyOfWrapper } from './families/index.ts';
import { objectOf } from './families/readers.ts';
import type { ConfigLayout, HuggingFaceLayout } from './layouts.ts';
import { importRope, RopeParameters } from './rope.ts';

export interface ImportedModel {
  readonly model: ModelConfig;
  /** `qwen3-moe` for both layouts of experts: which one it is, the tensors' names tell. */
  readonly layout: HuggingFaceLayout;
  /** `max_position_embeddings`. */
  readonly maxLength: number;
  /** Keys of `config.json` that were passed over because that was asked for, with their values. */
  readonly ignoredKeys: Readonly<Record<string, unknown>>;
  /** What a person should know of what was left out. */
  readonly notes: readonly string[];
}

export interface ImportConfigOptions {
  /** Keys to pass over although nobody knows what they ask for; `rope_scaling.key` for one within. */
  readonly ignore?: readonly string[] | undefined;
}

const Size = z.int().min(1);

/** Honoured keys that all layouts share, with the defaults of the classes in `transformers`. */
const SharedKeys = z.looseObject({
  vocab_size: z.int().min(2).default(151936),
  num_hidden_layers: Size,
  max_position_embeddings: Size.default(32768),
  initializer_range: z.number().positive().default(0.02),
  rms_norm_eps: z.number().positive().default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: RopeParameters.nullish(),
  rope_parameters: RopeParameters.nullish(),
  layer_types: z.array(z.string()).nullish(),
});

const DenseKeys = SharedKeys.extend({
  hidden_size: Size.default(4096),
  intermediate_size: Size.default(22016),
  num_attention_heads: Size.default(32),
  num_key_value_heads: Size.nullable().default(32),
  head_dim: Size.default(128),
});

const GatedKeys = DenseKeys.extend({
  use_qk_norm: z.boolean().default(true),
  headwise_attn_output_gate: z.boolean().default(false),
  elementwise_attn_output_gate: z.boolean().default(false),
});

const ExpertKeys = SharedKeys.extend({
  hidden_size: Size.default(2048),
  num_attention_heads: Size.default(32),
  num_key_value_heads: Size.nullable().default(4),
  head_dim: Size.nullish(),
  moe_intermediate_size: Size.default(768),
  num_experts: z.int().min(2).nullish(),
  // What newer versions of `transformers` call it.
  num_local_experts: z.int().min(2).nullish(),
  num_experts_per_tok: Size.default(8),
  norm_topk_prob: z.boolean().default(false),
  router_aux_loss_coef: z.number().min(0).default(0.001),
});

/** Of the classes in `transformers`. */
const DEFAULT_THETA = 10000;
const DEFAULT_EXPERTS = 128;

/**
 * @param config the content of `config.json`
 * @param source what to call it in messages
 * @throws SLUICE_E_HF_CONFIG when a key has a value of the wrong type; SLUICE_E_HF_UNSUPPORTED with all reasons;
 *   SLUICE_E_USAGE when there is nothing to ignore by a name
 */
export function importModelConfig(
  config: Readonly<Record<string, unknown>>,
  source: string,
  { ignore = [] }: ImportConfigOptions = {},
): ImportedModel {
  const wrapped = objectOf(config.text_config);
  const wrapper = wrapped && familyOfWrapper(config.model_type);
  if (wrapper) return importWrapped(config, wrapped, source, { ignore });
  const layout = layoutOf(config, source);
  const problems: string[] = [];
  const ignoredKeys = judgeKeys(config, layout, ignore, problems);
  const judged = { layout, source, ignore, ignoredKeys, problems };
  if (familyOf(layout)) return importFamily(config, judged);
  return READERS[layout as keyof typeof READERS](config, judged);
}

/** What the whole model says of the language model in it, too: whether its output projection is tied, and how weights are stored. */
const WHOLE_MODEL_KEYS = ['tie_word_embeddings', 'quantization_config', 'quantization', 'compression_config'];

/** The language model in one that sees or hears, too. Its own keys are judged; of those around it only what it shares. */
function importWrapped(
  config: Readonly<Record<string, unknown>>,
  text: Readonly<Record<string, unknown>>,
  source: string,
  options: ImportConfigOptions,
): ImportedModel {
  const shared = WHOLE_MODEL_KEYS.filter((key) => config[key] !== undefined);
  const inner = { ...text, ...Object.fromEntries(shared.map((key) => [key, config[key]])) };
  const type = text.model_type ?? familyOfWrapper(config.model_type)!.modelTypes[0];
  const imported = importModelConfig({ ...inner, model_type: type }, `${source} (text_config)`, options);
  const others = Object.keys(config).filter((key) => key.endsWith('_config') && key !== 'text_config');
  const note = `only the language model in ${String(config.model_type)} is taken (text_config); left out: ${others.join(', ') || 'nothing'}`;
  return { ...imported, notes: [note, ...imported.notes] };
}

function importFamily(config: Readonly<Record<string, unknown>>, judged: Judged): ImportedModel {
  const { layout, source, ignore, ignoredKeys, problems } = judged;
  const reading = { source, ignore, ignored: ignoredKeys, problems };
  const { model, maxLength } = familyOf(layout)!.read(config, reading);
  return concluded(model, maxLength, judged);
}

/** A `config.json` whose keys were judged. */
interface Judged {
  readonly layout: ConfigLayout;
  readonly source: string;
  readonly ignore: readonly string[];
  readonly ignoredKeys: Record<string, unknown>;
  readonly problems: string[];
}

const READERS = { gated: importGated, qwen3: importDense, 'qwen3-moe': importExperts };

/** The released checkpoints call themselves qwen2, so the gate's keys go before the name. */
function layoutOf(config: Readonly<Record<string, unknown>>, source: string): ConfigLayout {
  const { model_type: type } = config;
  const isGated = 'headwise_attn_output_gate' in config || 'elementwise_attn_output_gate' in config;
  if (isGated && (type === 'qwen2' || type === 'qwen3')) return 'gated';
  if (!isGated && type === 'qwen3') return 'qwen3';
  if (!isGated && type === 'qwen3_moe') return 'qwen3-moe';
  const family = isGated ? undefined : familyOfType(type);
  if (family) return family.layout as ConfigLayout;
  const families = FAMILIES.flatMap(({ modelTypes, wrapperTypes }) => [...modelTypes, ...wrapperTypes]);
  const gated = isGated ? ' with a gate after attention' : '';
  throw unsupported(source, [
    `the model type ${JSON.stringify(type)}${gated} (known: qwen3, qwen3_moe, ${families.join(', ')}, and the gated layout of the paper, which is a qwen2 or qwen3 with headwise_attn_output_gate or elementwise_attn_output_gate)`,
  ]);
}

function importDense(config: Readonly<Record<string, unknown>>, judged: Judged): ImportedModel {
  const keys = parse(config, DenseKeys, judged.source);
  return finish(keys, judged, keys.head_dim, {
    intermediateSize: keys.intermediate_size,
    gate: { granularity: 'none' },
    qkNorm: true,
  });
}

function importGated(config: Readonly<Record<string, unknown>>, judged: Judged): ImportedModel {
  const keys = parse(config, GatedKeys, judged.source);
  // Where both are asked for, the released code takes the headwise one.
  const gate = keys.headwise_attn_output_gate
    ? 'headwise'
    : keys.elementwise_attn_output_gate
      ? 'elementwise'
      : 'none';
  return finish(keys, judged, keys.head_dim, {
    intermediateSize: keys.intermediate_size,
    gate: { granularity: gate },
    qkNorm: keys.use_qk_norm,
  });
}

function importExperts(config: Readonly<Record<string, unknown>>, judged: Judged): ImportedModel {
  const keys = parse(config, ExpertKeys, judged.source);
  const { num_experts: count, num_local_experts: localCount } = keys;
  if (count != null && localCount != null && count !== localCount)
    judged.problems.push(`two numbers of experts (num_experts ${count}, num_local_experts ${localCount})`);
  const headDim = keys.head_dim ?? Math.floor(keys.hidden_size / keys.num_attention_heads);
  const experts = {
    count: count ?? localCount ?? DEFAULT_EXPERTS,
    topK: keys.num_experts_per_tok,
    intermediateSize: keys.moe_intermediate_size,
    normalizeTopK: keys.norm_topk_prob,
    balanceCoefficient: keys.router_aux_loss_coef,
    // There is no such loss in that class.
    zCoefficient: 0,
  };
  return finish(keys, judged, headDim, { experts, gate: { granularity: 'none' }, qkNorm: true });
}

/** The keys that all layouts share, and the parts that they do not. */
function finish(
  keys: z.infer<typeof DenseKeys> | z.infer<typeof ExpertKeys>,
  { layout, source, ignore, ignoredKeys, problems }: Judged,
  headDim: number,
  parts: object,
): ImportedModel {
  const maxLength = keys.max_position_embeddings;
  judgeLayerTypes(keys.layer_types ?? undefined, keys.num_hidden_layers, problems);
  const rope = importRope(keys, {
    defaultTheta: DEFAULT_THETA,
    maxLength,
    ignore,
    ignored: ignoredKeys,
    problems,
  });
  const model = {
    vocabularySize: keys.vocab_size,
    hiddenSize: keys.hidden_size,
    numLayers: keys.num_hidden_layers,
    numAttentionHeads: keys.num_attention_heads,
    numKeyValueHeads: keys.num_key_value_heads ?? keys.num_attention_heads,
    headDim,
    ropeTheta: rope.theta,
    ...(rope.scaling ? { ropeScaling: rope.scaling } : {}),
    rmsNormEps: keys.rms_norm_eps,
    tieWordEmbeddings: keys.tie_word_embeddings,
    initializerRange: keys.initializer_range,
    ...parts,
  };
  return concluded(model, maxLength, { layout, source, ignore, ignoredKeys, problems });
}

function concluded(
  model: object,
  maxLength: number,
  { layout, source, ignore, ignoredKeys, problems }: Judged,
): ImportedModel {
  if (problems.length > 0) throw unsupported(source, problems);
  const vain = ignore.filter((key) => !Object.hasOwn(ignoredKeys, key));
  if (vain.length > 0) throw ignoredInVain(source, vain);
  const result = ModelConfig.safeParse(model);
  if (result.success) return { model: result.data, layout, maxLength, ignoredKeys, notes: [] };
  const reasons = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw unsupported(source, reasons);
}

function judgeLayerTypes(types: readonly string[] | undefined, layers: number, problems: string[]): void {
  if (types === undefined) return;
  const other = types.find((type) => type !== 'full_attention');
  if (other !== undefined) problems.push(`layers of the type ${other} (layer_types)`);
  else if (types.length !== layers)
    problems.push(`${layers} layers and the types of ${types.length} (num_hidden_layers, layer_types)`);
}

function parse<Schema extends z.ZodType>(config: unknown, schema: Schema, source: string): z.output<Schema> {
  const result = schema.safeParse(config);
  if (result.success) return result.data;
  const issues = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new SluiceError('SLUICE_E_HF_CONFIG', `${source}: ${issues.join('; ')}.`, {
    details: { source, issues },
  });
}

function ignoredInVain(source: string, keys: readonly string[]): SluiceError {
  return new SluiceError(
    'SLUICE_E_USAGE',
    `There is nothing to ignore in ${source} by the name ${keys.join(', ')}: it has no such key, or Sluice knows it.`,
    { details: { source, keys } },
  );
}

function unsupported(source: string, reasons: readonly string[]): SluiceError {
  return new SluiceError('SLUICE_E_HF_UNSUPPORTED', `${source} asks for ${reasons.join('; for ')}.`, {
    details: { source, reasons },
  });
}
