/**
 * AFMoE (Trinity Nano, Mini and Large): windows with a rotary embedding, and without one every fourth layer sees all; four
 * norms a layer; experts chosen by biased sigmoids beside a shared one; embeddings times √C.
 */

import { z } from 'zod';
import { layerModels } from '../../layers.ts';
import { harmless, honoured, only } from '../keyRules.ts';
import type { Family } from './family.ts';
import { describeLayers } from './kinds.ts';
import { CommonKeys, commonModel, commonRope, layerTypes, parseKeys, Size } from './readers.ts';
import { sandwichNames, sandwichNorm } from './sandwich.ts';
import { ATTENTION_TYPES, attentionType, firstOf, windowOf, writtenCommon, writtenRope } from './written.ts';

const Keys = CommonKeys.extend({
  vocab_size: z.int().min(2).default(200192),
  hidden_size: Size.default(2048),
  intermediate_size: Size.default(6144),
  moe_intermediate_size: Size.default(1408),
  num_hidden_layers: Size.default(32),
  num_dense_layers: z.int().min(0).nullish(),
  num_attention_heads: Size.default(16),
  num_key_value_heads: Size.nullish(),
  head_dim: Size.default(128),
  max_position_embeddings: Size.default(16384),
  rms_norm_eps: z.number().positive().default(1e-5),
  num_experts: z.int().min(2).default(64),
  num_experts_per_tok: Size.default(6),
  num_shared_experts: z.int().min(0).default(2),
  route_scale: z.number().positive().nullish(),
  global_attn_every_n_layers: Size.default(4),
  sliding_window: Size.default(1024),
  mup_enabled: z.boolean().nullish(),
  load_balance_coeff: z.number().min(0).nullish(),
});

const NORMS = sandwichNames({
  beforeAttention: 'input_layernorm',
  afterAttention: 'post_attention_layernorm',
  beforeFeedForward: 'pre_mlp_layernorm',
  afterFeedForward: 'post_mlp_layernorm',
});

const NAMES: Readonly<Record<string, string>> = {
  ...NORMS,
  'mlp.gate.weight': 'mlp.router.gate.weight',
  'mlp.gate.e_score_correction_bias': 'mlp.expert_bias',
};

export const afmoe: Family = {
  layout: 'afmoe',
  modelTypes: ['afmoe'],
  wrapperTypes: [],
  architectures: ['AfmoeForCausalLM'],
  keys: {
    intermediate_size: honoured('intermediateSize of dense layers'),
    moe_intermediate_size: honoured('experts.intermediateSize'),
    num_dense_layers: honoured('dense layers, the first ones'),
    num_experts: honoured('experts.count'),
    num_experts_per_tok: honoured('experts.topK'),
    num_shared_experts: honoured('experts.sharedIntermediateSize, in widths of an expert'),
    route_scale: honoured('experts.scalingFactor'),
    layer_types: honoured('layers'),
    global_attn_every_n_layers: honoured('layers, where there are no layer_types'),
    sliding_window: honoured('window'),
    mup_enabled: honoured('embeddingScaling'),
    load_balance_coeff: honoured('experts.balanceBias.rate'),
    score_func: only(['sigmoid'], 'another score of experts than sigmoids'),
    route_norm: only([true], 'weights of experts that are not divided by their sum'),
    n_group: only([1], 'groups of experts'),
    topk_group: only([1], 'groups of experts'),
    attention_bias: only([false], 'biases of the projections'),
    num_expert_groups: only([1], 'groups of experts'),
    num_limited_groups: only([1], 'groups of experts'),
    use_grouped_mm: harmless('which implementation computes the same'),
    output_router_logits: harmless('whether Python returns them'),
  },
  read(config, reading) {
    const keys = parseKeys(config, Keys, reading.source);
    const { num_hidden_layers: depth, head_dim: headDim, num_experts_per_tok: topK } = keys;
    const interval = keys.global_attn_every_n_layers;
    const usual = Array.from({ length: depth }, (_, i) =>
      (i + 1) % interval === 0 ? 'full_attention' : 'sliding_attention',
    );
    const types = layerTypes(keys.layer_types ?? usual, ATTENTION_TYPES, depth, reading);
    const rope = commonRope(keys, reading, {
      ...{ maxLength: keys.max_position_embeddings, headDim, defaultTheta: 10000 },
    });
    const dense = keys.num_dense_layers ?? 1;
    const hasExperts = dense < depth;
    const kinds = types.map((type, layer) => {
      const isDense = hasExperts && layer < dense;
      const isFull = type === 'full_attention';
      return {
        name: `${isFull ? 'full' : 'sliding'}${isDense ? '-dense' : ''}`,
        kind: {
          ...(isFull ? { positions: 'none' as const } : { ...rope, window: keys.sliding_window }),
          ...(isDense && { feedForward: 'dense' as const }),
        },
      };
    });
    return {
      maxLength: keys.max_position_embeddings,
      model: {
        ...commonModel(keys),
        rmsNormEps: keys.rms_norm_eps,
        gate: { granularity: 'elementwise' },
        controls: [sandwichNorm()],
        ...(keys.mup_enabled && { embeddingScaling: 'sqrt' }),
        ...(dense > 0 && { intermediateSize: keys.intermediate_size }),
        ...(hasExperts && {
          experts: {
            count: keys.num_experts,
            topK,
            intermediateSize: keys.moe_intermediate_size,
            sharedIntermediateSize: keys.num_shared_experts * keys.moe_intermediate_size,
            router: 'sigmoid',
            scalingFactor: keys.route_scale ?? 1,
            balanceBias: { rate: keys.load_balance_coeff ?? 0.001 },
            // That is what the bias is in the place of.
            balanceCoefficient: 0,
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
    const sparse = layers.findIndex((layer) => layer.experts);
    return {
      ...writtenCommon(model),
      hidden_act: 'silu',
      rms_norm_eps: model.rmsNormEps,
      rope_parameters: writtenRope(firstOf(layers, 'sliding_attention')),
      layer_types: layers.map(attentionType),
      ...(windowOf(layers) !== undefined && { sliding_window: windowOf(layers) }),
      mup_enabled: model.embeddingScaling === 'sqrt',
      num_dense_layers: sparse < 0 ? layers.length : sparse,
      ...(model.intermediateSize !== undefined && { intermediate_size: model.intermediateSize }),
      ...(experts && {
        num_experts: experts.count,
        num_experts_per_tok: experts.topK,
        moe_intermediate_size: experts.intermediateSize,
        num_shared_experts: experts.sharedIntermediateSize / experts.intermediateSize,
        route_scale: experts.scalingFactor,
        route_norm: experts.normalizeTopK,
        score_func: experts.router,
        ...(experts.balanceBias && { load_balance_coeff: experts.balanceBias.rate }),
      }),
    };
  },
  names: () => ({
    gate: { tensor: 'self_attn.gate_proj.weight' },
    ofLayer: (name) => NAMES[name] ?? name.replace('mlp.shared_expert.', 'mlp.shared_experts.'),
    prefixes: ['model.'],
  }),
};
