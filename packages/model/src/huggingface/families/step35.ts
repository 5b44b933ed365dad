/**
 * Step-3.5-Flash, and the language model in Step-3.7: norms around zero, query heads and rotary embeddings by the layer's type,
 * windows, limited hidden units in some layers, experts chosen by biased sigmoids beside a shared one.
 */

import { z } from 'zod';
import { type LayerModel, layerModels } from '../../layers.ts';
import { harmless, honoured, only } from '../keyRules.ts';
import type { Family, Json, Reading, TensorPlace } from './family.ts';
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
import {
  ATTENTION_TYPES,
  type AttentionType,
  firstOf,
  windowOf,
  writtenCommon,
  writtenTypes,
} from './written.ts';

const Limits = z.array(z.number().min(0).nullable()).nullish();

const Keys = CommonKeys.extend({
  vocab_size: z.int().min(2).default(128815),
  hidden_size: Size.default(4096),
  intermediate_size: Size.default(11264),
  num_hidden_layers: Size.default(45),
  num_attention_heads: Size.default(64),
  num_key_value_heads: Size.nullish(),
  num_attention_groups: Size.nullish(),
  head_dim: Size.default(128),
  max_position_embeddings: Size.default(128000),
  rms_norm_eps: z.number().positive().default(1e-5),
  rope_theta: z.union([z.number().positive(), z.array(z.number().positive())]).nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  partial_rotary_factors: z.array(z.number().positive().max(1)).nullish(),
  num_nextn_predict_layers: z.int().min(0).default(0),
  sliding_window: Size.nullish(),
  num_sliding_attention_heads: Size.nullish(),
  attention_other_setting: z.record(z.string(), z.unknown()).nullish(),
  mlp_layer_types: z.array(z.enum(['dense', 'sparse'])).nullish(),
  moe_layers_enum: z.union([z.string(), z.array(z.int())]).nullish(),
  moe_intermediate_size: Size.default(1280),
  n_routed_experts: z.int().min(2).nullish(),
  moe_num_experts: z.int().min(2).nullish(),
  num_experts_per_tok: Size.nullish(),
  moe_top_k: Size.nullish(),
  share_expert_dim: z.int().min(0).default(1280),
  moe_router_scaling_factor: z.number().positive().default(1),
  swiglu_limits: Limits,
  swiglu_limits_shared: Limits,
  query_pre_attn_scalar: z.number().nullish(),
  per_layer_config: z.record(z.string(), z.unknown()).nullish(),
});

type Keys = z.infer<typeof Keys>;

/** One of two keys that mean the same. */
function either<T>(
  reading: Reading,
  names: [string, string],
  first: T | null | undefined,
  second: T | null | undefined,
  usual: T,
): T {
  if (first != null && second != null && first !== second)
    reading.problems.push(
      `two numbers where there should be one (${names[0]} ${first}, ${names[1]} ${second})`,
    );
  return first ?? second ?? usual;
}

/** The rotary embeddings of both types, as newer files have them, or made of lists with an item for each layer. */
function ropes(keys: Keys, types: readonly AttentionType[], reading: Reading) {
  const { rope_parameters: parameters, rope_scaling: scaling } = keys;
  const options = {
    ...{ maxLength: keys.max_position_embeddings, headDim: keys.head_dim, defaultTheta: 10000 },
    kinds: ['default', 'linear', 'yarn', 'llama3'] as const,
    isPartial: true,
  };
  const isGiven = parameters != null && Object.keys(parameters).length > 0;
  // What does not describe all types, the class passes over.
  if (isGiven) judgeTypes(parameters, types, reading);
  const ofType = (type: AttentionType): Json => {
    if (isGiven) return objectOf(parameters[type]) ?? {};
    const layer = Math.max(0, types.indexOf(type));
    const theta = Array.isArray(keys.rope_theta) ? keys.rope_theta[layer] : keys.rope_theta;
    const share = keys.partial_rotary_factors?.[layer];
    return {
      ...(theta != null && { rope_theta: theta }),
      ...(share !== undefined && { partial_rotary_factor: share }),
      ...(type === 'full_attention' && scaling),
    };
  };
  const ropeOf = (type: AttentionType) =>
    ropeOfType(
      isGiven ? `rope_parameters.${type}` : `the rotary embedding of ${type}`,
      ofType(type),
      reading,
      options,
    );
  return { full_attention: ropeOf('full_attention'), sliding_attention: ropeOf('sliding_attention') };
}

function sparseLayers({ moe_layers_enum: list, num_hidden_layers: depth }: Keys): ('dense' | 'sparse')[] {
  const numbers =
    typeof list === 'string'
      ? list
          .split(',')
          .filter((item) => item.trim() !== '')
          .map(Number)
      : list;
  const isSparse = (layer: number) => (numbers ? numbers.includes(layer) : layer >= 3);
  return Array.from({ length: depth }, (_, layer) => (isSparse(layer) ? 'sparse' : 'dense'));
}

/** Heads of the layers with a window. */
function slidingHeads(keys: Keys, reading: Reading): number {
  const { attention_other_setting: other = {}, num_attention_heads: heads } = keys;
  for (const [key, usual] of [
    ['num_attention_groups', keyValueHeads(keys, reading)],
    ['head_dim', keys.head_dim],
  ] as const) {
    const value = other?.[key];
    if (value !== undefined && value !== usual)
      reading.problems.push(
        `layers with other sizes of heads (attention_other_setting.${key} ${String(value)})`,
      );
  }
  const others = other?.num_attention_heads as number | undefined;
  return keys.num_sliding_attention_heads ?? others ?? heads;
}

function keyValueHeads(keys: Keys, reading: Reading): number {
  const { num_key_value_heads: first, num_attention_groups: second } = keys;
  return either(reading, ['num_key_value_heads', 'num_attention_groups'], first, second, 8);
}

function judge(keys: Keys, sliding: number, types: readonly string[], reading: Reading): void {
  const { query_pre_attn_scalar: scalar, head_dim: headDim } = keys;
  if (scalar != null && scalar !== headDim)
    reading.problems.push(
      `another scale of attention (query_pre_attn_scalar ${scalar}, head_dim ${headDim})`,
    );
  if (types.includes('sliding_attention') && keys.sliding_window == null)
    reading.problems.push('layers with a window whose size is not given (sliding_window)');
  for (const [layer, own] of Object.entries(keys.per_layer_config ?? {})) {
    const isKnown =
      types[Number(layer)] === 'sliding_attention' &&
      JSON.stringify(own) === JSON.stringify({ num_attention_heads: sliding });
    if (!isKnown)
      reading.problems.push(
        `a layer of its own configuration (per_layer_config.${layer} ${JSON.stringify(own)})`,
      );
  }
}

/** Where the tensors of experts lie: all of a layer in one. */
function stacked(name: string, layer: LayerModel): string | TensorPlace {
  const { experts, hiddenSize } = layer;
  const [, matrix] = /^mlp\.experts\.\d+\.(gate|up|down)_proj\.weight$/.exec(name) ?? [];
  if (matrix && experts) {
    const { count, intermediateSize: inner } = experts;
    const shape = matrix === 'down' ? [count, hiddenSize, inner] : [count, inner, hiddenSize];
    return { name: `moe.${matrix}_proj.weight`, shape };
  }
  if (!experts) return name;
  if (name === 'mlp.gate.weight') return 'moe.gate.weight';
  if (name === 'mlp.gate.e_score_correction_bias') return 'moe.router_bias';
  return name.replace('mlp.shared_expert.', 'share_expert.');
}

export const step35: Family = {
  layout: 'step3.5',
  modelTypes: ['step3p5'],
  wrapperTypes: ['step3p7', 'step3p5_vl'],
  architectures: ['Step3p5ForCausalLM'],
  keys: {
    intermediate_size: honoured('intermediateSize of dense layers'),
    num_attention_groups: honoured('numKeyValueHeads'),
    rope_theta: honoured('ropeTheta, for each layer'),
    rope_parameters: honoured('the rotary embedding of each type of layers; its own keys are judged too'),
    rope_scaling: honoured('ropeScaling of the layers that see all'),
    yarn_only_types: only([['full_attention']], 'a stretched rotary embedding of layers with a window'),
    partial_rotary_factors: honoured('rotaryDim of each layer'),
    layer_types: honoured('layers'),
    mlp_layer_types: honoured('dense layers'),
    moe_layers_enum: honoured('layers with experts'),
    mtp_layer_types: harmless('layers that predict further tokens are left out'),
    mtp_mlp_layer_types: harmless('layers that predict further tokens are left out'),
    num_nextn_predict_layers: harmless('layers that predict further tokens are left out'),
    sliding_window: honoured('window'),
    num_sliding_attention_heads: honoured('numAttentionHeads of layers with a window'),
    attention_other_setting: honoured('numAttentionHeads of layers with a window'),
    per_layer_config: honoured('numAttentionHeads of layers with a window'),
    attention_bias: only([false], 'biases of the projections'),
    query_pre_attn_scalar: honoured('must be head_dim'),
    use_head_wise_attn_gate: only([true], 'attention without its gate'),
    moe_intermediate_size: honoured('experts.intermediateSize'),
    n_routed_experts: honoured('experts.count'),
    moe_num_experts: honoured('experts.count'),
    num_local_experts: harmless('n_routed_experts counts'),
    num_experts_per_tok: honoured('experts.topK'),
    moe_top_k: honoured('experts.topK'),
    share_expert_dim: honoured('experts.sharedIntermediateSize'),
    moe_router_scaling_factor: honoured('experts.scalingFactor'),
    moe_router_activation: only(['sigmoid'], 'another score of experts than sigmoids'),
    norm_expert_weight: only([true], 'weights of experts that are not divided by their sum'),
    use_moe_router_bias: only([true], 'a choice of experts without a bias'),
    use_moe: only([true], 'a model without experts'),
    need_fp32_gate: harmless('the router is in f32 in any case'),
    swiglu_limits: honoured('swigluLimit of each layer with experts'),
    swiglu_limits_shared: honoured('sharedSwigluLimit of each layer, and swigluLimit of dense ones'),
    sink: only([false], 'attention with sinks'),
    use_qk_norm: only([true], 'queries and keys without a norm'),
    zero_centered: only([true], 'norms around one'),
    att_impl_type: only(['GQA'], 'another attention'),
    max_seq_len: harmless('max_position_embeddings counts'),
    output_router_logits: harmless('whether Python returns them'),
  },
  read(config, reading) {
    const keys = parseKeys(config, Keys, reading.source);
    const { num_hidden_layers: depth, num_attention_heads: heads } = keys;
    const padded = depth + keys.num_nextn_predict_layers;
    const types = layerTypes(
      keys.layer_types ?? Array(depth).fill('full_attention'),
      ATTENTION_TYPES,
      depth,
      reading,
      padded,
    );
    const feedForwards = perLayer(
      'mlp_layer_types',
      keys.mlp_layer_types ?? sparseLayers(keys),
      depth,
      reading,
      padded,
    );
    const limit = (key: 'swiglu_limits' | 'swiglu_limits_shared') => {
      const list = keys[key];
      const limits = list && perLayer(key, list, depth, reading, padded);
      return (layer: number) => limits?.[layer] || undefined;
    };
    const [limitOf, sharedLimitOf] = [limit('swiglu_limits'), limit('swiglu_limits_shared')];
    const sliding = slidingHeads(keys, reading);
    judge(keys, sliding, types, reading);
    const ofTypes = ropes(keys, types, reading);
    const hasExperts = feedForwards.includes('sparse');
    const kinds = types.map((type, layer) => {
      const isSliding = type === 'sliding_attention';
      const isDense = feedForwards[layer] === 'dense';
      // In the class, a dense layer is what a shared expert is, and has the limit of one.
      const swigluLimit = isDense ? sharedLimitOf(layer) : limitOf(layer);
      const sharedSwigluLimit = isDense ? undefined : sharedLimitOf(layer);
      const isLimited = swigluLimit !== undefined || sharedSwigluLimit !== undefined;
      return {
        name: `${isSliding ? 'sliding' : 'full'}${isDense && hasExperts ? '-dense' : ''}${isLimited ? '-limited' : ''}`,
        kind: {
          ...(isSliding && sliding !== heads && { numAttentionHeads: sliding }),
          ...(isSliding && keys.sliding_window != null && { window: keys.sliding_window }),
          ...ofTypes[type],
          ...{ swigluLimit, sharedSwigluLimit },
          ...(isDense && hasExperts && { feedForward: 'dense' as const }),
        },
      };
    });
    return {
      maxLength: keys.max_position_embeddings,
      model: {
        ...commonModel({ ...keys, num_key_value_heads: keyValueHeads(keys, reading) }),
        rmsNormEps: keys.rms_norm_eps,
        zeroCentredNorms: 'all',
        gate: { granularity: 'headwise' },
        ...(feedForwards.includes('dense') && { intermediateSize: keys.intermediate_size }),
        ...(hasExperts && {
          experts: {
            count: either(
              reading,
              ['n_routed_experts', 'moe_num_experts'],
              keys.n_routed_experts,
              keys.moe_num_experts,
              288,
            ),
            topK: either(
              reading,
              ['num_experts_per_tok', 'moe_top_k'],
              keys.num_experts_per_tok,
              keys.moe_top_k,
              8,
            ),
            intermediateSize: keys.moe_intermediate_size,
            sharedIntermediateSize: keys.share_expert_dim,
            router: 'sigmoid',
            scalingFactor: keys.moe_router_scaling_factor,
            balanceBias: {},
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
    const sliding = firstOf(layers, 'sliding_attention');
    const limits = (limitOf: (layer: LayerModel) => number | undefined) =>
      layers.some((layer) => limitOf(layer) !== undefined)
        ? layers.map((layer) => limitOf(layer) ?? null)
        : null;
    return {
      ...writtenCommon(model),
      hidden_act: 'silu',
      rms_norm_eps: model.rmsNormEps,
      ...writtenTypes(layers),
      sliding_window: windowOf(layers) ?? null,
      num_sliding_attention_heads: sliding.numAttentionHeads,
      swiglu_limits: limits((layer) => (layer.experts ? layer.swigluLimit : undefined)),
      swiglu_limits_shared: limits((layer) => (layer.experts ? layer.sharedSwigluLimit : layer.swigluLimit)),
      ...(model.intermediateSize !== undefined && { intermediate_size: model.intermediateSize }),
      ...(experts && {
        n_routed_experts: experts.count,
        num_experts_per_tok: experts.topK,
        moe_intermediate_size: experts.intermediateSize,
        share_expert_dim: experts.sharedIntermediateSize,
        moe_router_scaling_factor: experts.scalingFactor,
      }),
    };
  },
  names: () => ({
    gate: { tensor: 'self_attn.g_proj.weight' },
    ofLayer: stacked,
    prefixes: ['model.', 'model.language_model.', ''],
  }),
  leftOut(name, { numLayers }) {
    const [, layer] = /\blayers\.(\d+)\./.exec(name) ?? [];
    if (layer !== undefined && Number(layer) >= numLayers) return 'layers that predict further tokens';
    return /^(model\.)?(vision_model|vit_large_projector|multi_modal_projector)\./.test(name)
      ? 'the part that sees'
      : undefined;
  },
};
