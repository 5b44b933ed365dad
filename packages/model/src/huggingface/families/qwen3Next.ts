/** Qwen3-Next-80B-A3B: layers of full attention among linear ones, experts with a gated shared one. */

import { z } from 'zod';
import { layerModels } from '../../layers.ts';
import { harmless, honoured } from '../keyRules.ts';
import type { Family } from './family.ts';
import { describeLayers } from './kinds.ts';
import { joinedByKeyHead, LINEAR, linearMixer, writtenLinear, writtenTypes } from './linearAttention.ts';
import {
  QWEN_EXPERT_KEYS,
  QWEN_KEYS,
  QWEN_MODEL,
  QwenExpertKeys,
  qwenExperts,
  qwenLayerTypes,
  writtenCommon,
  writtenExperts,
  writtenRope,
} from './qwen.ts';
import { qwenAdaptation } from './qwenAdaptation.ts';
import { commonModel, commonRope, parseKeys, Size } from './readers.ts';

const Keys = QwenExpertKeys.extend({
  vocab_size: z.int().min(2).default(151936),
  hidden_size: Size.default(2048),
  intermediate_size: Size.default(5632),
  num_hidden_layers: Size.default(48),
  num_attention_heads: Size.default(16),
  mlp_only_layers: z.array(z.int().min(0)).nullish(),
  decoder_sparse_step: Size.default(1),
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
    const { num_hidden_layers: depth, head_dim: headDim } = keys;
    const types = qwenLayerTypes(keys, reading);
    const isDense = (layer: number) =>
      (keys.mlp_only_layers ?? []).includes(layer) || (layer + 1) % keys.decoder_sparse_step !== 0;
    const dense = Array.from({ length: depth }, (_, layer) => isDense(layer));
    const rope = commonRope(keys, reading, {
      maxLength: keys.max_position_embeddings,
      ...{ headDim, defaultTheta: 10000, defaultShare: 0.25 },
    });
    const experts = dense.every((is) => is) ? {} : { experts: qwenExperts(keys) };
    const mixer = linearMixer(keys);
    const kinds = types.map((type, layer) => {
      const isLinear = type === LINEAR;
      const isAmongExperts = dense[layer]! && 'experts' in experts;
      return {
        name: `${isLinear ? 'linear' : 'full'}${isAmongExperts ? '-dense' : ''}`,
        kind: {
          ...(isLinear && { mixer }),
          ...rope,
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
      rope_parameters: writtenRope(layers[0]!),
      layer_types: writtenTypes(model),
      ...writtenLinear(model),
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
    joined: joinedByKeyHead,
    prefixes: ['model.', 'model.language_model.'],
  }),
  leftOut: (name) => (name.startsWith('mtp.') ? 'layers that predict further tokens' : undefined),
};
