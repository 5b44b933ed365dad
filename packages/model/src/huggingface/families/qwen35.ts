/**
 * Qwen3.5 and its successors of the same classes (3.6, 3.8), dense and with experts: layers of full attention among linear ones.
 * Released as models that see, too; the language model in them is taken.
 */

import { z } from 'zod';
import { type LayerModel, layerModels } from '../../layers.ts';
import { harmless, honoured } from '../keyRules.ts';
import type { Family, Json, Reading, TensorNames, TensorPlace } from './family.ts';
import { describeLayers } from './kinds.ts';
import {
  firstFull,
  gatedDeltaNet,
  LinearKeys,
  linearType,
  typesByInterval,
  writtenLinear,
} from './linear.ts';
import {
  QWEN_EXPERT_KEYS,
  QWEN_KEYS,
  QWEN_MODEL,
  QWEN_SHARE,
  QwenExpertKeys,
  QwenKeys,
  qwenExperts,
  writtenExperts,
} from './qwen.ts';
import { qwenAdaptation } from './qwenAdaptation.ts';
import { commonModel, commonRope, layerTypes, parseKeys, Size } from './readers.ts';
import { writtenCommon, writtenRope } from './written.ts';

const DenseKeys = QwenKeys.extend({
  ...LinearKeys,
  vocab_size: z.int().min(2).default(248320),
  hidden_size: Size.default(4096),
  intermediate_size: Size.default(12288),
  num_hidden_layers: Size.default(32),
  num_attention_heads: Size.default(16),
  num_key_value_heads: Size.default(4),
});

const MoeKeys = QwenExpertKeys.extend({
  ...LinearKeys,
  vocab_size: z.int().min(2).default(248320),
  hidden_size: Size.default(2048),
  num_hidden_layers: Size.default(40),
  num_attention_heads: Size.default(16),
  num_experts: z.int().min(2).default(256),
  num_experts_per_tok: Size.default(8),
});

const KEYS = {
  ...QWEN_KEYS,
  mrope_section: harmless('text has one position'),
  mrope_interleaved: harmless('text has one position'),
};

/** What both have; the rotary embedding of several positions is a plain one for text. */
function common(keys: z.infer<typeof DenseKeys> | z.infer<typeof MoeKeys>, reading: Reading): object {
  const { num_hidden_layers: depth, head_dim: headDim } = keys;
  const written = keys.layer_types ?? typesByInterval(depth, keys.full_attention_interval);
  const types = layerTypes(written, ['full_attention', 'linear_attention'], depth, reading);
  const rope = commonRope(keys, reading, {
    ...{ maxLength: keys.max_position_embeddings, headDim, defaultTheta: 10000, defaultShare: QWEN_SHARE },
    isPartial: true,
    harmlessKeys: ['mrope_section', 'mrope_interleaved'],
  });
  const kinds = types.map((type) =>
    type === 'full_attention'
      ? { name: 'full', kind: rope }
      : { name: 'linear', kind: { ...rope, mixer: gatedDeltaNet(keys) } },
  );
  return { ...commonModel(keys), ...QWEN_MODEL, rmsNormEps: keys.rms_norm_eps, ...describeLayers(kinds) };
}

function written(layers: readonly LayerModel[]): Json {
  return {
    hidden_act: 'silu',
    rms_norm_eps: layers[0]!.rmsNormEps,
    rope_parameters: writtenRope(firstFull(layers), QWEN_SHARE),
    layer_types: layers.map(linearType),
    ...writtenLinear(layers),
  };
}

const PREFIXES: TensorNames['prefixes'] = ['model.', 'model.language_model.', 'language_model.model.'];

function leftOut(name: string): string | undefined {
  if (/^mtp\./.test(name)) return 'layers that predict further tokens';
  return /^(model\.)?visual\./.test(name) ? 'the part that sees' : undefined;
}

export const qwen35: Family = {
  layout: 'qwen3.5',
  modelTypes: ['qwen3_5_text'],
  wrapperTypes: ['qwen3_5'],
  architectures: ['Qwen3_5ForCausalLM'],
  keys: { ...KEYS, intermediate_size: honoured('intermediateSize') },
  read(config, reading) {
    const keys = parseKeys(config, DenseKeys, reading.source);
    return {
      maxLength: keys.max_position_embeddings,
      model: { ...common(keys, reading), intermediateSize: keys.intermediate_size },
    };
  },
  write(model) {
    const { intermediateSize } = model;
    return { ...writtenCommon(model), ...written(layerModels(model)), intermediate_size: intermediateSize };
  },
  adapt: qwenAdaptation,
  names: () => ({ gate: 'behind-queries', ofLayer: (name) => name, prefixes: PREFIXES }),
  leftOut,
};

/** Where the matrices of experts lie: the gate's and the other of each expert, and those out of all experts. */
function fused(name: string, { experts, hiddenSize }: LayerModel): string | TensorPlace {
  const [, matrix] = /^mlp\.experts\.\d+\.(gate|up|down)_proj\.weight$/.exec(name) ?? [];
  if (!matrix || !experts) return name;
  const { count, intermediateSize: inner } = experts;
  return matrix === 'down'
    ? { name: 'mlp.experts.down_proj', shape: [count, hiddenSize, inner] }
    : { name: 'mlp.experts.gate_up_proj', shape: [count, 2 * inner, hiddenSize] };
}

export const qwen35Moe: Family = {
  layout: 'qwen3.5-moe',
  perExpertLayout: 'qwen3.5-moe-per-expert',
  modelTypes: ['qwen3_5_moe_text'],
  wrapperTypes: ['qwen3_5_moe'],
  architectures: ['Qwen3_5MoeForCausalLM'],
  keys: {
    ...KEYS,
    ...QWEN_EXPERT_KEYS,
    output_router_logits: harmless('whether Python returns them; Sluice balances by router_aux_loss_coef'),
  },
  read(config, reading) {
    const keys = parseKeys(config, MoeKeys, reading.source);
    if (!keys.norm_topk_prob)
      reading.problems.push('weights of experts that are not divided by their sum (norm_topk_prob false)');
    return {
      maxLength: keys.max_position_embeddings,
      model: { ...common(keys, reading), experts: qwenExperts(keys) },
    };
  },
  write(model) {
    const { experts } = model;
    return {
      ...writtenCommon(model),
      ...written(layerModels(model)),
      ...(experts && writtenExperts(experts)),
    };
  },
  adapt: qwenAdaptation,
  names: (layout) => ({
    gate: 'behind-queries',
    ofLayer: layout === 'qwen3.5-moe' ? fused : (name) => name,
    prefixes: PREFIXES,
  }),
  leftOut,
};
