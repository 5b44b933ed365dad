/**
 * LFM3 (1.7B): short convolutions, attention in windows and attention to all in turn; headwise gates; four norms a layer; a rotary
 * embedding of whose frequencies, in layers that see all, only the higher ones turn. Dense.
 */

import { z } from 'zod';
import { interleavedGate } from '../../gates/gate.ts';
import { layerModels } from '../../layers.ts';
import { activeMixer } from '../../mixers/index.ts';
import { honoured, only } from '../keyRules.ts';
import type { Family, Reading } from './family.ts';
import { describeLayers } from './kinds.ts';
import {
  CommonKeys,
  commonModel,
  judgeTypes,
  layerTypes,
  objectOf,
  parseKeys,
  ropeOfType,
  Size,
} from './readers.ts';
import { sandwichNames, sandwichNorm } from './sandwich.ts';
import { attentionType, NO_TOKENS, windowOf, writtenCommon, writtenRope } from './written.ts';

const Keys = CommonKeys.extend({
  vocab_size: z.int().min(2).default(128000),
  hidden_size: Size.default(2048),
  intermediate_size: Size.default(7680),
  num_hidden_layers: Size.default(24),
  num_attention_heads: Size.default(16),
  num_key_value_heads: Size.default(4),
  head_dim: Size.default(128),
  max_position_embeddings: Size.default(128000),
  norm_eps: z.number().positive().nullish(),
  rms_norm_eps: z.number().positive().nullish(),
  tie_word_embeddings: z.boolean().default(true),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  conv_L_cache: z.int().min(2).default(7),
  sliding_window: Size.default(256),
  use_sandwich_norm: z.boolean().default(true),
  use_attention_gate: z.boolean().default(true),
});

/** Of the class, where `config.json` says nothing. */
const ROPE: Readonly<Record<string, object>> = {
  sliding_attention: { rope_type: 'default', rope_theta: 10000 },
  full_attention: { rope_type: 'proportional', rope_theta: 1000000, partial_rotary_factor: 0.5 },
};

const TYPES = ['conv', 'sliding_attention', 'full_attention'] as const;

function usualTypes(depth: number): string[] {
  return Array.from({ length: depth }, (_, layer) => {
    if (layer % 4 === 2) return 'full_attention';
    return layer % 4 === 0 && layer > 0 ? 'sliding_attention' : 'conv';
  });
}

function ropeOf(type: string, keys: z.infer<typeof Keys>, reading: Reading) {
  const described = keys.rope_parameters ?? ROPE;
  return ropeOfType(`rope_parameters.${type}`, objectOf(described[type]), reading, {
    ...{ maxLength: keys.max_position_embeddings, headDim: keys.head_dim, defaultTheta: 1000000 },
    kinds: ['default', 'proportional', 'linear', 'yarn'],
  });
}

const NAMES: Readonly<Record<string, string>> = {
  ...sandwichNames({
    beforeAttention: 'operator_norm',
    afterAttention: 'post_operator_norm',
    beforeFeedForward: 'ffn_norm',
    afterFeedForward: 'post_ffn_norm',
  }),
  'mlp.gate_proj.weight': 'feed_forward.w1.weight',
  'mlp.up_proj.weight': 'feed_forward.w3.weight',
  'mlp.down_proj.weight': 'feed_forward.w2.weight',
};

export const lfm3: Family = {
  layout: 'lfm3',
  modelTypes: ['lfm3'],
  wrapperTypes: ['lfm3_vl'],
  architectures: ['Lfm3ForCausalLM'],
  keys: {
    intermediate_size: honoured('intermediateSize'),
    norm_eps: honoured('rmsNormEps'),
    rope_parameters: honoured('the rotary embedding of each type of layers; its own keys are judged too'),
    rope_theta: only([], 'a rotary embedding outside of rope_parameters'),
    rope_scaling: only([], 'a rotary embedding outside of rope_parameters'),
    partial_rotary_factor: only([], 'a rotary embedding outside of rope_parameters'),
    layer_types: honoured('layers'),
    sliding_window: honoured('window'),
    conv_L_cache: honoured('taps of the convolutions'),
    conv_bias: only([false], 'biases of the convolutions'),
    use_sandwich_norm: honoured('the sandwich norm'),
    use_attention_gate: honoured('gate'),
    attention_bias: only([false], 'biases of the projections'),
  },
  read(config, reading) {
    const keys = parseKeys(config, Keys, reading.source);
    const { num_hidden_layers: depth, norm_eps: epsilon, rms_norm_eps: other } = keys;
    if (epsilon != null && other != null && epsilon !== other)
      reading.problems.push(`two epsilons of norms (norm_eps ${epsilon}, rms_norm_eps ${other})`);
    const types = layerTypes(keys.layer_types ?? usualTypes(depth), TYPES, depth, reading);
    const isAttention = (type: string) => type !== 'conv';
    if (keys.rope_parameters) judgeTypes(keys.rope_parameters, types.filter(isAttention), reading);
    const kinds = {
      conv: {
        name: 'conv',
        kind: { mixer: { kind: 'short-convolution' as const, taps: keys.conv_L_cache } },
      },
      sliding_attention: {
        name: 'sliding',
        kind: { window: keys.sliding_window, ...ropeOf('sliding_attention', keys, reading) },
      },
      full_attention: { name: 'full', kind: ropeOf('full_attention', keys, reading) },
    };
    return {
      maxLength: keys.max_position_embeddings,
      model: {
        ...commonModel(keys),
        intermediateSize: keys.intermediate_size,
        rmsNormEps: epsilon ?? other ?? 1e-5,
        gate: { granularity: keys.use_attention_gate ? 'headwise' : 'none' },
        controls: keys.use_sandwich_norm ? [sandwichNorm()] : [],
        ...describeLayers(types.map((type) => kinds[type])),
      },
    };
  },
  write(model) {
    const layers = layerModels(model);
    const mixers = layers.flatMap((layer) => activeMixer(layer)?.settings ?? []);
    const [taps] = mixers.flatMap((settings) => (settings.kind === 'short-convolution' ? settings.taps : []));
    const attention = layers.filter((layer) => !activeMixer(layer));
    const ropes = attention.map((layer) => [attentionType(layer), writtenRope(layer)] as const);
    return {
      ...writtenCommon(model),
      ...NO_TOKENS,
      norm_eps: model.rmsNormEps,
      rope_parameters: { ...ROPE, ...Object.fromEntries(ropes) },
      layer_types: layers.map((layer) => (activeMixer(layer) ? 'conv' : attentionType(layer))),
      ...(windowOf(attention) !== undefined && { sliding_window: windowOf(attention) }),
      intermediate_size: model.intermediateSize,
      ...(taps !== undefined && { conv_L_cache: taps }),
      conv_bias: false,
      use_sandwich_norm: model.controls.some(({ kind }) => kind === 'sandwich-norm'),
      use_attention_gate: attention.some((layer) => interleavedGate(layer) !== 'none'),
    };
  },
  names: () => ({
    gate: { tensor: 'self_attn.gate_proj.weight' },
    ofLayer: (name) => NAMES[name] ?? name,
    ofModel: { 'model.norm.weight': 'model.embedding_norm.weight' },
    prefixes: ['model.', 'model.language_model.'],
  }),
  leftOut: (name) =>
    /^(model\.)?(vision_tower|multi_modal_projector)\./.test(name) ? 'the part that sees' : undefined,
};
