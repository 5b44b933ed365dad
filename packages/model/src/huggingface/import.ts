/** A Hugging Face `config.json` as a `ModelConfig`. What Sluice's models do not have is refused, all of it at once. */

import { SluiceError } from '@sluice/core';
import { z } from 'zod';
import { ModelConfig } from '../config.ts';
import type { HuggingFaceLayout } from './layouts.ts';
import { importRope } from './rope.ts';

export interface ImportedModel {
  readonly model: ModelConfig;
  /** `qwen3-moe` for both layouts of experts: which one it is, the tensors' names tell. */
  readonly layout: HuggingFaceLayout;
  /** `max_position_embeddings`. */
  readonly maxLength: number;
}

const Size = z.int().min(1);

/** Keys that all layouts share, with the defaults of the classes in `transformers`. */
const SharedKeys = z.looseObject({
  vocab_size: z.int().min(2).default(151936),
  num_hidden_layers: Size,
  hidden_act: z.string().default('silu'),
  max_position_embeddings: Size.default(32768),
  initializer_range: z.number().positive().default(0.02),
  rms_norm_eps: z.number().positive().default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  rope_theta: z.number().positive().optional(),
  attention_bias: z.boolean().default(false),
  qkv_bias: z.boolean().default(false),
  use_sliding_window: z.boolean().default(false),
  layer_types: z.array(z.string()).nullish(),
  partial_rotary_factor: z.number().default(1),
});

const DenseKeys = SharedKeys.extend({
  hidden_size: Size.default(4096),
  intermediate_size: Size.default(22016),
  num_attention_heads: Size.default(32),
  num_key_value_heads: Size.nullable().default(32),
  head_dim: Size.default(128),
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
  num_experts: z.int().min(2).optional(),
  // What newer versions of `transformers` call it.
  num_local_experts: z.int().min(2).optional(),
  num_experts_per_tok: Size.default(8),
  norm_topk_prob: z.boolean().default(false),
  router_aux_loss_coef: z.number().min(0).default(0.001),
  decoder_sparse_step: z.int().default(1),
  mlp_only_layers: z.array(z.int()).nullish(),
});

/** Of the classes in `transformers`. */
const DEFAULT_THETA = 10000;
const DEFAULT_EXPERTS = 128;

/**
 * @param config the content of `config.json`
 * @param source what to call it in messages
 * @throws SLUICE_E_HF_CONFIG when a key has a value of the wrong type; SLUICE_E_HF_UNSUPPORTED with all reasons
 */
export function importModelConfig(config: Readonly<Record<string, unknown>>, source: string): ImportedModel {
  const layout = layoutOf(config, source);
  return layout === 'qwen3-moe' ? importExperts(config, source) : importDense(config, layout, source);
}

/** The released checkpoints call themselves qwen2, so the gate's keys go before the name. */
function layoutOf(config: Readonly<Record<string, unknown>>, source: string): HuggingFaceLayout {
  if ('headwise_attn_output_gate' in config || 'elementwise_attn_output_gate' in config) return 'gated';
  if (config.model_type === 'qwen3') return 'qwen3';
  if (config.model_type === 'qwen3_moe') return 'qwen3-moe';
  throw unsupported(source, [
    `the model type ${JSON.stringify(config.model_type)} (known: qwen3, qwen3_moe, and the gated layout of the paper, which is told by headwise_attn_output_gate or elementwise_attn_output_gate)`,
  ]);
}

function importDense(
  config: Readonly<Record<string, unknown>>,
  layout: HuggingFaceLayout,
  source: string,
): ImportedModel {
  const keys = parse(config, DenseKeys, source);
  const gate = keys.headwise_attn_output_gate
    ? 'headwise'
    : keys.elementwise_attn_output_gate
      ? 'elementwise'
      : 'none';
  const isGated = layout === 'gated';
  return finish(keys, source, layout, keys.head_dim, {
    intermediateSize: keys.intermediate_size,
    // Only the paper's classes read these keys.
    gate: { granularity: isGated ? gate : 'none' },
    qkNorm: isGated ? keys.use_qk_norm : true,
  });
}

function importExperts(config: Readonly<Record<string, unknown>>, source: string): ImportedModel {
  const keys = parse(config, ExpertKeys, source);
  const problems: string[] = [];
  if (keys.decoder_sparse_step !== 1)
    problems.push(`experts in some layers only (decoder_sparse_step ${keys.decoder_sparse_step})`);
  if (keys.mlp_only_layers?.length)
    problems.push(`layers without experts (mlp_only_layers ${JSON.stringify(keys.mlp_only_layers)})`);
  const headDim = keys.head_dim ?? Math.floor(keys.hidden_size / keys.num_attention_heads);
  const experts = {
    count: keys.num_experts ?? keys.num_local_experts ?? DEFAULT_EXPERTS,
    topK: keys.num_experts_per_tok,
    intermediateSize: keys.moe_intermediate_size,
    normalizeTopK: keys.norm_topk_prob,
    balanceCoefficient: keys.router_aux_loss_coef,
    // There is no such loss in that class.
    zCoefficient: 0,
  };
  const parts = { experts, gate: { granularity: 'none' }, qkNorm: true };
  return finish(keys, source, 'qwen3-moe', headDim, parts, problems);
}

/** The keys that all layouts share, and the parts that they do not. */
function finish(
  keys: z.infer<typeof DenseKeys> | z.infer<typeof ExpertKeys>,
  source: string,
  layout: HuggingFaceLayout,
  headDim: number,
  parts: object,
  problems: string[] = [],
): ImportedModel {
  const maxLength = keys.max_position_embeddings;
  if (keys.hidden_act !== 'silu') problems.push(`the activation ${keys.hidden_act} (known: silu)`);
  // The gated classes read qkv_bias alone, the others attention_bias alone.
  const biased = layout === 'gated' ? 'qkv_bias' : 'attention_bias';
  if (keys[biased]) problems.push(`biases of the projections (${biased})`);
  if (keys.use_sliding_window) problems.push('attention in a sliding window (use_sliding_window)');
  const partial = keys.layer_types?.find((type) => type !== 'full_attention');
  if (partial !== undefined && !keys.use_sliding_window)
    problems.push(`layers of the type ${partial} (layer_types)`);
  if (keys.partial_rotary_factor !== 1)
    problems.push(
      `a rotary embedding of part of a head (partial_rotary_factor ${keys.partial_rotary_factor})`,
    );
  if (keys.quantization_config != null)
    problems.push('quantised weights (quantization_config); save the model in bf16');
  const rope = importRope(keys, DEFAULT_THETA, maxLength, problems);
  if (problems.length > 0) throw unsupported(source, problems);
  const result = ModelConfig.safeParse({
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
  });
  if (result.success) return { model: result.data, layout, maxLength };
  const reasons = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw unsupported(source, reasons);
}

function parse<Schema extends z.ZodType>(config: unknown, schema: Schema, source: string): z.output<Schema> {
  const result = schema.safeParse(config);
  if (result.success) return result.data;
  const issues = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new SluiceError('SLUICE_E_HF_CONFIG', `${source}: ${issues.join('; ')}.`, {
    details: { source, issues },
  });
}

function unsupported(source: string, reasons: readonly string[]): SluiceError {
  return new SluiceError('SLUICE_E_HF_UNSUPPORTED', `${source} asks for ${reasons.join('; for ')}.`, {
    details: { source, reasons },
  });
}
