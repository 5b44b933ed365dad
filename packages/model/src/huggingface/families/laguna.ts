/**
 * Laguna (XS.2, S-2.1, M.1): softplus gates, query heads and rotary embeddings by the layer's type, windows, experts chosen by
 * biased sigmoids beside a shared one.
 */

import { z } from 'zod';
import { interleavedGate, namedGates } from '../../gates/gate.ts';
import { layerModels } from '../../layers.ts';
import { harmless, honoured, only } from '../keyRules.ts';
import type { Family, Reading } from './family.ts';
import { describeLayers } from './kinds.ts';
import {
  CommonKeys,
  commonModel,
  judgeTypes,
  layerTypes,
  objectOf,
  parseKeys,
  perLayer,
  ropeOfType,
  Size,
} from './readers.ts';
import { ATTENTION_TYPES, type AttentionType, windowOf, writtenCommon, writtenTypes } from './written.ts';

const Keys = CommonKeys.extend({
  vocab_size: z.int().min(2).default(100352),
  hidden_size: Size.default(2048),
  intermediate_size: Size.default(8192),
  num_hidden_layers: Size.default(40),
  num_attention_heads: Size.default(48),
  num_key_value_heads: Size.default(8),
  head_dim: Size.default(128),
  max_position_embeddings: Size.default(131072),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  sliding_window: Size.default(512),
  moe_intermediate_size: Size.default(512),
  shared_expert_intermediate_size: z.int().min(0).default(512),
  num_experts_per_tok: Size.default(8),
  num_experts: z.int().min(2).default(256),
  router_aux_loss_coef: z.number().min(0).default(0.001),
  gating: z.union([z.literal(true), z.literal('per-head'), z.literal('per-element')]).default(true),
  num_attention_heads_per_layer: z.array(Size).nullish(),
  mlp_layer_types: z.array(z.enum(['dense', 'sparse'])).nullish(),
  moe_routed_scaling_factor: z.number().positive().default(1),
  moe_router_logit_softcapping: z.number().min(0).nullish(),
});

/** Of the class, where `config.json` says nothing. */
const ROPE = {
  full_attention: { rope_type: 'default', rope_theta: 500000, partial_rotary_factor: 0.5 },
  sliding_attention: { rope_type: 'default', rope_theta: 10000, partial_rotary_factor: 1 },
} as const;

function ropes(keys: z.infer<typeof Keys>, types: readonly AttentionType[], reading: Reading) {
  const described = keys.rope_parameters ?? ROPE;
  const options = {
    ...{ maxLength: keys.max_position_embeddings, headDim: keys.head_dim },
    kinds: ['default', 'linear', 'yarn'] as const,
    isPartial: true,
  };
  judgeTypes(described, types, reading);
  const ropeOf = (type: AttentionType) =>
    ropeOfType(`rope_parameters.${type}`, objectOf(described[type]), reading, {
      ...options,
      defaultTheta: ROPE[type].rope_theta,
    });
  return { full_attention: ropeOf('full_attention'), sliding_attention: ropeOf('sliding_attention') };
}

const NAMES: Readonly<Record<string, string>> = {
  'self_attn.sdpa_gate.weight': 'self_attn.g_proj.weight',
  'mlp.gate.e_score_correction_bias': 'mlp.experts.e_score_correction_bias',
};

export const laguna: Family = {
  layout: 'laguna',
  modelTypes: ['laguna'],
  wrapperTypes: [],
  architectures: ['LagunaForCausalLM'],
  keys: {
    intermediate_size: honoured('intermediateSize of dense layers'),
    rope_parameters: honoured('the rotary embedding of each type of layers; its own keys are judged too'),
    rope_theta: only([], 'a rotary embedding outside of rope_parameters'),
    rope_scaling: only([], 'a rotary embedding outside of rope_parameters'),
    partial_rotary_factor: only([], 'a rotary embedding outside of rope_parameters'),
    swa_rope_parameters: only([], 'a rotary embedding outside of rope_parameters'),
    sliding_window: honoured('window'),
    layer_types: honoured('layers'),
    mlp_layer_types: honoured('dense layers'),
    num_attention_heads_per_layer: honoured('numAttentionHeads of each layer'),
    gating: honoured('gate'),
    moe_intermediate_size: honoured('experts.intermediateSize'),
    shared_expert_intermediate_size: honoured('experts.sharedIntermediateSize'),
    num_experts: honoured('experts.count'),
    num_experts_per_tok: honoured('experts.topK'),
    moe_routed_scaling_factor: honoured('experts.scalingFactor'),
    router_aux_loss_coef: honoured('experts.balanceCoefficient'),
    moe_apply_router_weight_on_input: only([false], 'weights of experts on what goes in'),
    moe_router_logit_softcapping: honoured('experts.logitCap; 0 is none'),
    norm_topk_prob: only([true], 'weights of experts that are not divided by their sum'),
    attention_bias: only([false], 'biases of the projections'),
    output_router_logits: harmless('whether Python returns them; Sluice balances by router_aux_loss_coef'),
  },
  read(config, reading) {
    const keys = parseKeys(config, Keys, reading.source);
    const { num_hidden_layers: depth, num_attention_heads: heads } = keys;
    const types = layerTypes(
      keys.layer_types ?? Array(depth).fill('full_attention'),
      ATTENTION_TYPES,
      depth,
      reading,
    );
    const mlps = keys.mlp_layer_types ?? ['dense', ...Array<'sparse'>(depth - 1).fill('sparse')];
    const feedForwards = perLayer('mlp_layer_types', mlps, depth, reading);
    const perHead = keys.num_attention_heads_per_layer;
    const ofLayer = perHead && perLayer('num_attention_heads_per_layer', perHead, depth, reading);
    const ofTypes = ropes(keys, types, reading);
    const hasExperts = feedForwards.includes('sparse');
    const kinds = types.map((type, layer) => {
      const own = ofLayer?.[layer] ?? heads;
      const isDense = hasExperts && feedForwards[layer] === 'dense';
      return {
        name: `${type === 'full_attention' ? 'full' : 'sliding'}${isDense ? '-dense' : ''}`,
        kind: {
          ...(own !== heads && { numAttentionHeads: own }),
          ...(type === 'sliding_attention' && { window: keys.sliding_window }),
          ...ofTypes[type],
          ...(isDense && { feedForward: 'dense' as const }),
        },
      };
    });
    return {
      maxLength: keys.max_position_embeddings,
      model: {
        ...commonModel(keys),
        rmsNormEps: keys.rms_norm_eps,
        gate: {
          granularity: keys.gating === 'per-element' ? 'elementwise' : 'headwise',
          activation: 'softplus',
        },
        ...(feedForwards.includes('dense') && { intermediateSize: keys.intermediate_size }),
        ...(hasExperts && {
          experts: {
            count: keys.num_experts,
            topK: keys.num_experts_per_tok,
            intermediateSize: keys.moe_intermediate_size,
            sharedIntermediateSize: keys.shared_expert_intermediate_size,
            router: 'sigmoid',
            scalingFactor: keys.moe_routed_scaling_factor,
            ...(keys.moe_router_logit_softcapping && { logitCap: keys.moe_router_logit_softcapping }),
            balanceBias: {},
            balanceCoefficient: keys.router_aux_loss_coef,
            zCoefficient: 0,
          },
        }),
        ...describeLayers(kinds),
      },
    };
  },
  write(model) {
    const layers = layerModels(model);
    const { experts } = model;
    const [gate] = interleavedGate(model) === 'none' ? namedGates(model) : [];
    return {
      ...writtenCommon(model),
      hidden_act: 'silu',
      rms_norm_eps: model.rmsNormEps,
      ...writtenTypes(layers),
      num_attention_heads_per_layer: layers.map((layer) => layer.numAttentionHeads),
      gating: gate?.granularity === 'elementwise' ? 'per-element' : 'per-head',
      ...(windowOf(layers) !== undefined && { sliding_window: windowOf(layers) }),
      ...(model.intermediateSize !== undefined && { intermediate_size: model.intermediateSize }),
      ...(experts && {
        num_experts: experts.count,
        num_experts_per_tok: experts.topK,
        moe_intermediate_size: experts.intermediateSize,
        shared_expert_intermediate_size: experts.sharedIntermediateSize,
        moe_routed_scaling_factor: experts.scalingFactor,
        moe_router_logit_softcapping: experts.logitCap ?? 0,
        router_aux_loss_coef: experts.balanceCoefficient,
      }),
    };
  },
  names: () => ({
    // Its own gate is a softplus, and so has a tensor of its own with us too.
    gate: { tensor: 'self_attn.g_proj.weight' },
    ofLayer: (name) => NAMES[name] ?? name,
    prefixes: ['model.'],
  }),
};
