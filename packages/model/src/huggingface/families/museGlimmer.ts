/**
 * Muse-Glimmer (30B, the language model in it): normed embeddings, four norms around zero a layer, norms of queries and keys
 * without weights, windows, every fourth layer without positions, scaled and capped logits. Dense.
 */

import { z } from 'zod';
import { controlCaps } from '../../controls/index.ts';
import { layerModels } from '../../layers.ts';
import { harmless, honoured, only } from '../keyRules.ts';
import type { Family } from './family.ts';
import { describeLayers } from './kinds.ts';
import { CommonKeys, commonModel, commonRope, layerTypes, parseKeys, perLayer, Size } from './readers.ts';
import { sandwichNames, sandwichNorm } from './sandwich.ts';
import { attentionType, firstOf, NO_TOKENS, windowOf, writtenCommon, writtenRope } from './written.ts';

const Keys = CommonKeys.extend({
  vocab_size: z.int().min(2).default(202048),
  hidden_size: Size.default(6656),
  intermediate_size: Size.default(19968),
  num_hidden_layers: Size.default(52),
  num_attention_heads: Size.default(32),
  num_key_value_heads: Size.default(2),
  head_dim: Size.default(128),
  max_position_embeddings: Size.default(131072),
  rms_norm_eps: z.number().positive().default(1e-5),
  post_norm_eps: z.number().positive().default(1e-8),
  sliding_window: Size.default(2048),
  final_logit_softcapping: z.number().positive().nullable().default(20),
  qk_scale_factor: z.number().positive().default(3.87),
  output_multiplier: z.number().positive().default(0.19611613513818404),
  layer_rope_theta: z.array(z.number().min(0)).nullish(),
});

const NORMS = sandwichNames({
  beforeAttention: 'input_layernorm',
  afterAttention: 'post_attention_layernorm',
  beforeFeedForward: 'pre_feedforward_layernorm',
  afterFeedForward: 'post_feedforward_layernorm',
});

export const museGlimmer: Family = {
  layout: 'muse-glimmer',
  modelTypes: ['muse_glimmer_text'],
  wrapperTypes: ['muse_glimmer'],
  // The class of a model that sees too; there is none of the language model alone.
  architectures: ['MuseGlimmerForConditionalGeneration'],
  keys: {
    intermediate_size: honoured('intermediateSize'),
    hidden_activation: only(['silu'], 'another activation than silu'),
    post_norm_eps: honoured('epsilon of the sandwich norm'),
    layer_types: honoured('layers'),
    sliding_window: honoured('window'),
    layer_rope_theta: honoured('positions of each layer: 0 for none'),
    qk_scale_factor: honoured('queryScale'),
    output_multiplier: honoured('logitScale'),
    final_logit_softcapping: honoured('the cap of the logits'),
    attention_bias: only([false], 'biases of the projections'),
    bos_token_id: harmless('ids of tokens, for generating and exporting'),
  },
  read(config, reading) {
    const keys = parseKeys(config, Keys, reading.source);
    const { num_hidden_layers: depth, head_dim: headDim } = keys;
    // Every fourth layer, counted from the last.
    const isWide = (layer: number) => (depth - 1 - layer) % 4 === 0;
    const usual = Array.from({ length: depth }, (_, i) =>
      isWide(i) ? 'full_attention' : 'sliding_attention',
    );
    const types = layerTypes(
      keys.layer_types ?? usual,
      ['full_attention', 'sliding_attention'],
      depth,
      reading,
    );
    const rope = commonRope(keys, reading, {
      ...{ maxLength: keys.max_position_embeddings, headDim, defaultTheta: 10000 },
    });
    const bases = keys.layer_rope_theta;
    const ofLayer = bases && perLayer('layer_rope_theta', bases, depth, reading);
    // The class asks of a layer's base only whether it is 0, and rotates all other layers by one.
    const other = ofLayer?.find((theta) => theta !== 0 && theta !== rope.ropeTheta);
    if (other !== undefined)
      reading.problems.push(
        `several bases of the rotary embedding (layer_rope_theta ${other}, rope_theta ${rope.ropeTheta})`,
      );
    const kinds = types.map((type, layer) => ({
      name: type === 'full_attention' ? 'full' : 'sliding',
      kind: {
        ...(type === 'sliding_attention' && { window: keys.sliding_window }),
        ...((ofLayer ? ofLayer[layer] === 0 : isWide(layer)) ? { positions: 'none' as const } : rope),
      },
    }));
    const cap = keys.final_logit_softcapping;
    return {
      maxLength: keys.max_position_embeddings,
      model: {
        ...commonModel(keys),
        intermediateSize: keys.intermediate_size,
        rmsNormEps: keys.rms_norm_eps,
        zeroCentredNorms: 'layers',
        qkNorm: 'weightless',
        queryScale: keys.qk_scale_factor,
        embeddingScaling: 'norm',
        logitScale: keys.output_multiplier,
        gate: { granularity: 'elementwise' },
        controls: [
          sandwichNorm(keys.post_norm_eps),
          ...(cap === null ? [] : [{ kind: 'softcap', logits: cap }]),
        ],
        ...describeLayers(kinds),
      },
    };
  },
  write(model) {
    const layers = layerModels(model);
    const sandwich = model.controls.find(({ kind }) => kind === 'sandwich-norm');
    const epsilon = sandwich && 'epsilon' in sandwich ? sandwich.epsilon : undefined;
    return {
      ...writtenCommon(model),
      ...NO_TOKENS,
      hidden_activation: 'silu',
      rms_norm_eps: model.rmsNormEps,
      post_norm_eps: epsilon ?? model.rmsNormEps,
      rope_parameters: writtenRope(firstOf(layers, 'sliding_attention')),
      layer_types: layers.map(attentionType),
      layer_rope_theta: layers.map(({ positions, ropeTheta }) => (positions === 'none' ? 0 : ropeTheta)),
      ...(windowOf(layers) !== undefined && { sliding_window: windowOf(layers) }),
      intermediate_size: model.intermediateSize,
      qk_scale_factor: model.queryScale ?? 1,
      output_multiplier: model.logitScale ?? 1,
      final_logit_softcapping: controlCaps(model).logits ?? null,
    };
  },
  names: () => ({
    gate: { tensor: 'self_attn.gate_proj.weight' },
    ofLayer: (name) => NORMS[name] ?? name,
    prefixes: ['model.language_model.', 'model.', ''],
  }),
  leftOut: (name) =>
    /^(model\.)?(visual|vision_model|vision_adapter|vision_projection|vision_tower)\./.test(name)
      ? 'the part that sees'
      : undefined,
};
