/** What the families of Qwen have alike: the gate behind each head's queries, norms around zero, the gated shared expert. */

import { z } from 'zod';
import type { ExpertsConfig } from '../../config.ts';
import { harmless, honoured, type KeyRule, only } from '../keyRules.ts';
import type { Json } from './family.ts';
import { CommonKeys, Size } from './readers.ts';

const LINEAR = honoured('the linear layers');

export const QWEN_KEYS: Readonly<Record<string, KeyRule>> = {
  layer_types: honoured('layers'),
  full_attention_interval: honoured('layers, where there are no layer_types'),
  partial_rotary_factor: honoured('rotaryDim'),
  linear_num_key_heads: LINEAR,
  linear_num_value_heads: LINEAR,
  linear_key_head_dim: LINEAR,
  linear_value_head_dim: LINEAR,
  linear_conv_kernel_dim: LINEAR,
  attn_output_gate: only([true], 'attention without its gate'),
  attention_bias: only([false], 'biases of the projections'),
  output_gate_type: only(['swish', 'silu'], 'another gate of the linear layers than swish'),
  mamba_ssm_dtype: harmless('recurrent states are in f32 in any case'),
  mtp_num_hidden_layers: harmless('layers that predict further tokens are left out'),
  num_nextn_predict_layers: harmless('layers that predict further tokens are left out'),
  use_qk_norm: only([true], 'queries and keys without a norm'),
};

export const QWEN_EXPERT_KEYS: Readonly<Record<string, KeyRule>> = {
  num_experts: honoured('experts.count'),
  num_experts_per_tok: honoured('experts.topK'),
  moe_intermediate_size: honoured('experts.intermediateSize'),
  shared_expert_intermediate_size: honoured('experts.sharedIntermediateSize'),
  norm_topk_prob: honoured('experts.normalizeTopK'),
  router_aux_loss_coef: honoured('experts.balanceCoefficient'),
};

export const QwenKeys = CommonKeys.extend({
  num_key_value_heads: Size.default(2),
  head_dim: Size.default(256),
  max_position_embeddings: Size.default(32768),
  rms_norm_eps: z.number().positive().default(1e-6),
  full_attention_interval: Size.default(4),
});

export const QwenExpertKeys = QwenKeys.extend({
  num_experts: z.int().min(2).default(512),
  num_experts_per_tok: Size.default(10),
  moe_intermediate_size: Size.default(512),
  shared_expert_intermediate_size: Size.default(512),
  norm_topk_prob: z.boolean().default(true),
  router_aux_loss_coef: z.number().min(0).default(0.001),
});

/** Share of a head that the rotary embedding turns where `config.json` says nothing. */
export const QWEN_SHARE = 0.25;

/** What all of Qwen's gated models compute. */
export const QWEN_MODEL = { zeroCentredNorms: 'all', gate: { granularity: 'elementwise' } } as const;

export function qwenExperts(keys: z.infer<typeof QwenExpertKeys>): object {
  return {
    count: keys.num_experts,
    topK: keys.num_experts_per_tok,
    intermediateSize: keys.moe_intermediate_size,
    sharedIntermediateSize: keys.shared_expert_intermediate_size,
    sharedGate: true,
    normalizeTopK: keys.norm_topk_prob,
    balanceCoefficient: keys.router_aux_loss_coef,
    // There is no such loss in these classes.
    zCoefficient: 0,
  };
}

export function writtenExperts(experts: ExpertsConfig): Json {
  return {
    num_experts: experts.count,
    num_experts_per_tok: experts.topK,
    moe_intermediate_size: experts.intermediateSize,
    shared_expert_intermediate_size: experts.sharedIntermediateSize,
    norm_topk_prob: experts.normalizeTopK,
    router_aux_loss_coef: experts.balanceCoefficient,
  };
}
