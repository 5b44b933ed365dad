/**
 * Olmo-Hybrid (7B): layers of Gated DeltaNet with norms before them, and layers of full attention without a gate, whose norms stand
 * behind them and are of all heads together.
 */

import { z } from 'zod';
import { type LayerModel, layerModels } from '../../layers.ts';
import { harmless, honoured, only } from '../keyRules.ts';
import type { Family } from './family.ts';
import { describeLayers } from './kinds.ts';
import {
  firstFull,
  gatedDeltaNet,
  linearSettings,
  linearType,
  type MixedTensor,
  projectionsApart,
  writtenLinear,
} from './linear.ts';
import { CommonKeys, commonModel, commonRope, layerTypes, parseKeys, Size } from './readers.ts';
import { NO_TOKENS, writtenCommon, writtenRope } from './written.ts';

const Keys = CommonKeys.extend({
  vocab_size: z.int().min(2).default(100352),
  hidden_size: Size.default(3840),
  intermediate_size: Size.default(11008),
  num_hidden_layers: Size.default(32),
  num_attention_heads: Size.default(30),
  num_key_value_heads: Size.nullish(),
  head_dim: Size.nullish(),
  max_position_embeddings: Size.default(65536),
  rms_norm_eps: z.number().positive().default(1e-6),
  linear_num_key_heads: Size.nullish(),
  linear_num_value_heads: Size.nullish(),
  linear_key_head_dim: Size.nullish(),
  linear_value_head_dim: Size.nullish(),
  linear_conv_kernel_dim: z.int().min(2).default(4),
  linear_allow_neg_eigval: z.boolean().default(true),
});

type Keys = z.infer<typeof Keys>;

/** Of the class, whatever `rms_norm_eps` is. */
const OUTPUT_NORM_EPS = 1e-5;

function usualTypes(depth: number): string[] {
  const types = Array.from({ length: depth }, (_, i) =>
    i % 4 === 3 ? 'full_attention' : 'linear_attention',
  );
  if (!types.includes('full_attention')) types[depth - 1] = 'full_attention';
  return types;
}

function linearMixer(keys: Keys) {
  const keyHeads = keys.linear_num_key_heads ?? keys.num_attention_heads;
  const keyDim = keys.linear_key_head_dim ?? Math.floor((0.75 * keys.hidden_size) / keyHeads);
  const mixer = gatedDeltaNet({
    linear_num_key_heads: keyHeads,
    linear_num_value_heads: keys.linear_num_value_heads ?? keys.num_attention_heads,
    linear_key_head_dim: keyDim,
    linear_value_head_dim: keys.linear_value_head_dim ?? 2 * keyDim,
    linear_conv_kernel_dim: keys.linear_conv_kernel_dim,
  });
  return {
    ...mixer,
    ...(keys.linear_allow_neg_eigval && { allowNegativeEigenvalues: true }),
    normEps: OUTPUT_NORM_EPS,
    initialDecay: 'time-steps' as const,
  };
}

/** Of the class: nothing is rotated where the base is null, and by the usual one where none is given. */
function hasPositions({
  rope_parameters: parameters,
  rope_scaling: scaling,
  rope_theta: outer,
}: Keys): boolean {
  const { rope_theta: theta = outer } = scaling ?? parameters ?? {};
  return theta !== null;
}

const NAMES: Readonly<Record<string, string>> = {
  'linear_attn.in_proj_z.weight': 'linear_attn.g_proj.weight',
  'linear_attn.in_proj_b.weight': 'linear_attn.b_proj.weight',
  'linear_attn.in_proj_a.weight': 'linear_attn.a_proj.weight',
  'linear_attn.norm.weight': 'linear_attn.o_norm.weight',
  'linear_attn.out_proj.weight': 'linear_attn.o_proj.weight',
};

/** Of linear layers; those of attention are called as ours. */
const NORMS: Readonly<Record<string, string>> = {
  'input_layernorm.weight': 'attention_layer_norm.weight',
  'post_attention_layernorm.weight': 'feedforward_layer_norm.weight',
};

/** Queries, keys and values have projections and convolutions of their own. */
function ownProjections(layer: LayerModel, prefix: string): MixedTensor[] {
  const settings = linearSettings(layer);
  if (!settings) return [];
  const { keyHeads, valueHeads, keyDim, valueDim, taps } = settings;
  const sizes = { keys: keyHeads * keyDim, values: valueHeads * valueDim, taps };
  return projectionsApart('linear_attn', sizes, layer, prefix);
}

const INITIAL = harmless('says what training begins with');

export const olmoHybrid: Family = {
  layout: 'olmo-hybrid',
  modelTypes: ['olmo_hybrid'],
  wrapperTypes: [],
  architectures: ['OlmoHybridForCausalLM'],
  keys: {
    intermediate_size: honoured('intermediateSize'),
    layer_types: honoured('layers'),
    rope_parameters: honoured('the rotary embedding; there is none where rope_theta is null'),
    rope_theta: honoured('ropeTheta; null for no rotary embedding'),
    linear_num_key_heads: honoured('mixer.keyHeads'),
    linear_num_value_heads: honoured('mixer.valueHeads'),
    linear_key_head_dim: honoured('mixer.keyDim'),
    linear_value_head_dim: honoured('mixer.valueDim'),
    linear_conv_kernel_dim: honoured('mixer.taps'),
    linear_allow_neg_eigval: honoured('mixer.allowNegativeEigenvalues'),
    linear_a_log_min: INITIAL,
    linear_a_log_max: INITIAL,
    linear_dt_min: INITIAL,
    linear_dt_max: INITIAL,
    linear_dt_init_floor: INITIAL,
    attention_bias: only([false], 'biases of the projections'),
  },
  read(config, reading) {
    const keys = parseKeys(config, Keys, reading.source);
    const { num_hidden_layers: depth, hidden_size: hidden, num_attention_heads: heads } = keys;
    const headDim = keys.head_dim ?? Math.floor(hidden / heads);
    const types = layerTypes(
      keys.layer_types ?? usualTypes(depth),
      ['full_attention', 'linear_attention'],
      depth,
      reading,
    );
    if (new Set(types).size < 2)
      reading.problems.push(`layers of one type alone, ${types[0]} (layer_types), which the class refuses`);
    const options = { maxLength: keys.max_position_embeddings, headDim, defaultTheta: 10000 };
    const described = commonRope(keys, reading, options);
    const rope = hasPositions(keys) ? described : { positions: 'none' as const };
    const mixer = linearMixer(keys);
    const kinds = types.map((type) =>
      type === 'linear_attention'
        ? { name: 'linear', kind: { ...rope, mixer } }
        : { name: 'full', kind: { ...rope, normPlacement: 'after' as const } },
    );
    return {
      maxLength: keys.max_position_embeddings,
      model: {
        ...commonModel({ ...keys, head_dim: headDim }),
        intermediateSize: keys.intermediate_size,
        rmsNormEps: keys.rms_norm_eps,
        qkNorm: 'all-heads',
        gates: [],
        ...describeLayers(kinds),
      },
    };
  },
  write(model) {
    const layers = layerModels(model);
    const [settings] = layers.flatMap((layer) => linearSettings(layer) ?? []);
    const full = firstFull(layers);
    return {
      ...writtenCommon(model),
      ...NO_TOKENS,
      hidden_act: 'silu',
      rms_norm_eps: model.rmsNormEps,
      rope_parameters:
        full.positions === 'none' ? { rope_type: 'default', rope_theta: null } : writtenRope(full),
      layer_types: layers.map(linearType),
      intermediate_size: model.intermediateSize,
      ...writtenLinear(layers),
      linear_allow_neg_eigval: settings?.allowNegativeEigenvalues ?? false,
    };
  },
  names: () => ({
    gate: 'behind-queries',
    ofLayer: (name, layer) => (linearSettings(layer) ? (NORMS[name] ?? NAMES[name] ?? name) : name),
    mixed: ownProjections,
    prefixes: ['model.'],
  }),
};
