/**
 * Qwen3.5, and 3.6 and 3.8 with it, dense and with experts: Qwen3-Next's layers, with the projections of linear layers apart.
 * Released models see, too: their language model is in `text_config`, and its tensors behind `model.language_model.`.
 */

import { z } from 'zod';
import type { ModelConfig } from '../../config.ts';
import { layerModels } from '../../layers.ts';
import { harmless, honoured, only } from '../keyRules.ts';
import type { Family, Json, Reading } from './family.ts';
import { describeLayers } from './kinds.ts';
import { LINEAR, linearMixer, writtenLinear, writtenTypes } from './linearAttention.ts';
import {
  QWEN_EXPERT_KEYS,
  QWEN_KEYS,
  QWEN_MODEL,
  QwenExpertKeys,
  QwenKeys,
  qwenExperts,
  qwenLayerTypes,
  writtenCommon,
  writtenExperts,
  writtenRope,
} from './qwen.ts';
import { qwenAdaptation } from './qwenAdaptation.ts';
import { commonModel, commonRope, parseKeys, Size } from './readers.ts';

const Vocabulary = z.int().min(2).default(248320);

const DenseKeys = QwenKeys.extend({
  vocab_size: Vocabulary,
  hidden_size: Size.default(4096),
  intermediate_size: Size.default(12288),
  num_hidden_layers: Size.default(32),
  num_attention_heads: Size.default(16),
  num_key_value_heads: Size.default(4),
});

const MoeKeys = QwenExpertKeys.extend({
  vocab_size: Vocabulary,
  hidden_size: Size.default(2048),
  num_hidden_layers: Size.default(40),
  num_attention_heads: Size.default(16),
  num_experts: z.int().min(2).default(256),
  num_experts_per_tok: Size.default(8),
});

/** What the position of an image is made of; the three are alike for text. */
const HARMLESS_ROPE_KEYS = ['mrope_section', 'mrope_interleaved'];

function readCommon(keys: z.infer<typeof QwenKeys> & Parameters<typeof commonModel>[0], reading: Reading) {
  const rope = commonRope(keys, reading, {
    maxLength: keys.max_position_embeddings,
    ...{ headDim: keys.head_dim, defaultTheta: 10000, defaultShare: 0.25 },
    harmlessKeys: HARMLESS_ROPE_KEYS,
  });
  const mixer = linearMixer(keys);
  const kinds = qwenLayerTypes(keys, reading).map((type) =>
    type === LINEAR ? { name: 'linear', kind: { mixer, ...rope } } : { name: 'full', kind: rope },
  );
  return {
    ...commonModel(keys),
    ...QWEN_MODEL,
    rmsNormEps: keys.rms_norm_eps,
    ...describeLayers(kinds),
  };
}

function writeBoth(model: ModelConfig): Json {
  return {
    ...writtenCommon(model),
    hidden_act: 'silu',
    rms_norm_eps: model.rmsNormEps,
    rope_parameters: writtenRope(layerModels(model)[0]!),
    layer_types: writtenTypes(model),
    ...writtenLinear(model),
  };
}

const PREFIXES = ['model.', 'model.language_model.'] as const;

function leftOut(name: string): string | undefined {
  if (name.startsWith('mtp.')) return 'layers that predict further tokens';
  return name.startsWith('model.visual.') ? 'the part that sees' : undefined;
}

export const qwen35: Family = {
  layout: 'qwen3.5',
  modelTypes: ['qwen3_5_text'],
  wrapperTypes: ['qwen3_5'],
  architectures: ['Qwen3_5ForCausalLM'],
  keys: { ...QWEN_KEYS, intermediate_size: honoured('intermediateSize') },
  read(config, reading) {
    const keys = parseKeys(config, DenseKeys, reading.source);
    const model = { ...readCommon(keys, reading), intermediateSize: keys.intermediate_size };
    return { maxLength: keys.max_position_embeddings, model };
  },
  write: (model) => ({ ...writeBoth(model), intermediate_size: model.intermediateSize }),
  adapt: qwenAdaptation,
  names: () => ({ gate: 'behind-queries', ofLayer: (name) => name, prefixes: PREFIXES }),
  leftOut,
};

const EXPERT = /^mlp\.experts\.\d+\.(gate|up|down)_proj\.weight$/;

export const qwen35Moe: Family = {
  layout: 'qwen3.5-moe',
  perExpertLayout: 'qwen3.5-moe-per-expert',
  modelTypes: ['qwen3_5_moe_text'],
  wrapperTypes: ['qwen3_5_moe'],
  architectures: ['Qwen3_5MoeForCausalLM'],
  keys: {
    ...QWEN_KEYS,
    ...QWEN_EXPERT_KEYS,
    norm_topk_prob: only([true], 'weights of experts that are not divided by their sum'),
    output_router_logits: harmless('whether Python returns them; Sluice balances by router_aux_loss_coef'),
  },
  read(config, reading) {
    const keys = parseKeys(config, MoeKeys, reading.source);
    const model = { ...readCommon(keys, reading), experts: qwenExperts(keys) };
    return { maxLength: keys.max_position_embeddings, model };
  },
  write: (model) => ({ ...writeBoth(model), ...(model.experts && writtenExperts(model.experts)) }),
  adapt: qwenAdaptation,
  names: (layout) => ({
    gate: 'behind-queries',
    ofLayer(name, { experts, hiddenSize }) {
      const matrix = layout === 'qwen3.5-moe' && EXPERT.exec(name)?.[1];
      if (!matrix || !experts) return name;
      const { count, intermediateSize: inner } = experts;
      return matrix === 'down'
        ? { name: 'mlp.experts.down_proj', shape: [count, hiddenSize, inner] }
        : { name: 'mlp.experts.gate_up_proj', shape: [count, 2 * inner, hiddenSize] };
    },
    prefixes: PREFIXES,
  }),
  leftOut,
};
