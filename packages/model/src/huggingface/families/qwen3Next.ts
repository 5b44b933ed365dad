/** Qwen3-Next-80B-A3B: layers of full attention among linear ones, experts with a gated shared one. */

import { z } from 'zod';
import { layerModels } from '../../layers.ts';
import { harmless, honoured } from '../keyRules.ts';
import type { Family } from './family.ts';
import { describeLayers } from './kinds.ts';
import {
  firstFull,
  gatedDeltaNet,
  LinearKeys,
  linearType,
  projectionsByKeyHead,
  typesByInterval,
  writtenLinear,
} from './linear.ts';
import {
  QWEN_EXPERT_KEYS,
  QWEN_KEYS,
  QWEN_MODEL,
  QWEN_SHARE,
  QwenExpertKeys,
  qwenExperts,
  writtenExperts,
} from './qwen.ts';
import { qwenAdaptation } from './qwenAdaptation.ts';
import { commonModel, commonRope, layerTypes, parseKeys, Size } from './readers.ts';
import { writtenCommon, writtenOldRope } from './written.ts';

const Keys = QwenExpertKeys.extend({
  vocab_size: z.int().min(2).default(151936),
  hidden_size: Size.default(2048),
  intermediate_size: Size.default(5632),
  num_hidden_layers: Size.default(48),
  num_attention_heads: Size.default(16),
  mlp_only_layers: z.array(z.int().min(0)).nullish(),
  decoder_sparse_step: Size.default(1),
  ...LinearKeys,
});

export const qwen3Next: Family = {
  layout: 'qwen3-next',
  modelTypes: ['qwen3_next'],
  wrapperTypes: [],
  architectures: ['Qwen3NextForCausalLM'],
  keys: {
    ...QWEN_KEYS,
    ...QWEN_EXPERT_KEYS,
    intermediate_size: honoured('intermediateSize of dense layers'),
    mlp_only_layers: honoured('dense layers'),
    decoder_sparse_step: honoured('dense layers'),
    output_router_logits: harmless('whether Python returns them; Sluice balances by router_aux_loss_coef'),
  },
  read(config, reading) {
    const keys = parseKeys(config, Keys, reading.source);
    const { num_hidden_layers: depth, full_attention_interval: interval, head_dim: headDim } = keys;
    const written = keys.layer_types ?? typesByInterval(depth, interval);
    const types = layerTypes(written, ['full_attention', 'linear_attention'], depth, reading);
    const isDense = (layer: number) =>
      (keys.mlp_only_layers ?? []).includes(layer) || (layer + 1) % keys.decoder_sparse_step !== 0;
    const dense = Array.from({ length: depth }, (_, layer) => isDense(layer));
    const rope = commonRope(keys, reading, {
      maxLength: keys.max_position_embeddings,
      ...{ headDim, defaultTheta: 10000, defaultShare: QWEN_SHARE, isPartial: true },
    });
    const experts = dense.every((is) => is) ? {} : { experts: qwenExperts(keys) };
    const kinds = types.map((type, layer) => {
      const isFull = type === 'full_attention';
      const isAmongExperts = dense[layer] && 'experts' in experts;
      return {
        name: `${isFull ? 'full' : 'linear'}${isAmongExperts ? '-dense' : ''}`,
        kind: {
          ...rope,
          ...(!isFull && { mixer: gatedDeltaNet(keys) }),
          ...(isAmongExperts && { feedForward: 'dense' as const }),
        },
      };
    });
    return {
      maxLength: keys.max_position_embeddings,
      model: {
        ...commonModel(keys),
        ...QWEN_MODEL,
        rmsNormEps: keys.rms_norm_eps,
        ...(dense.some((is) => is) && { intermediateSize: keys.intermediate_size }),
        ...experts,
        ...describeLayers(kinds),
      },
    };
  },
  write(model) {
    const layers = layerModels(model);
    return {
      ...writtenCommon(model),
      hidden_act: 'silu',
      rms_norm_eps: model.rmsNormEps,
      ...writtenOldRope(firstFull(layers)),
      layer_types: layers.map(linearType),
      ...writtenLinear(layers),
      ...(model.intermediateSize !== undefined && { intermediate_size: model.intermediateSize }),
      ...(model.experts && writtenExperts(model.experts)),
      decoder_sparse_step: 1,
      mlp_only_layers: layers.flatMap(({ experts }, layer) => (experts ? [] : [layer])),
    };
  },
  adapt: qwenAdaptation,
  names: () => ({
    gate: 'behind-queries',
    ofLayer: (name) => name,
    mixed: projectionsByKeyHead,
    prefixes: ['model.', 'model.language_model.'],
  }),
  leftOut: (name) => (name.startsWith('mtp.') ? 'layers that predict further tokens' : undefined),
};
