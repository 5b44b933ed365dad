/**
 * Kimi-Linear-48B-A3B: layers of Kimi Delta Attention, and layers of attention whose keys and values are made of a latent, neither with
 * positions; experts chosen by biased sigmoids beside a shared one. Files have it as released: `linear_attn_config` counts layers
 * from 1 on.
 */

import { z } from 'zod';
import type { ExpertsConfig } from '../../config.ts';
import { type LayerModel, layerModels } from '../../layers.ts';
import { activeMixer } from '../../mixers/index.ts';
import { harmless, honoured, only } from '../keyRules.ts';
import type { Family, Json, Reading, TensorPlace } from './family.ts';
import { describeLayers } from './kinds.ts';
import { linearType, type MixedTensor, projectionsApart } from './linear.ts';
import { CommonKeys, commonModel, layerTypes, parseKeys, perLayer, Size } from './readers.ts';
import { NO_TOKENS, writtenCommon } from './written.ts';

const LinearConfig = z.strictObject({
  head_dim: Size.nullish(),
  num_heads: Size.nullish(),
  short_conv_kernel_size: z.int().min(2).nullish(),
  kda_layers: z.array(Size).nullish(),
  full_attn_layers: z.array(Size).nullish(),
});

const Keys = CommonKeys.extend({
  vocab_size: z.int().min(2).default(163840),
  hidden_size: Size.default(2304),
  intermediate_size: Size.default(9216),
  num_hidden_layers: Size.default(27),
  num_attention_heads: Size.default(32),
  num_key_value_heads: Size.nullish(),
  max_position_embeddings: Size.nullish(),
  model_max_length: Size.nullish(),
  rms_norm_eps: z.number().positive().default(1e-5),
  kv_lora_rank: Size.default(512),
  qk_nope_head_dim: Size.default(128),
  qk_rope_head_dim: z.int().min(0).default(64),
  v_head_dim: Size.default(128),
  linear_attn_config: LinearConfig.nullish(),
  linear_head_dim: Size.nullish(),
  linear_num_heads: Size.nullish(),
  linear_conv_kernel_dim: z.int().min(2).nullish(),
  mlp_layer_types: z.array(z.enum(['dense', 'sparse'])).nullish(),
  first_k_dense_replace: z.int().min(0).nullish(),
  num_experts: z.int().min(2).nullish(),
  num_local_experts: z.int().min(2).nullish(),
  num_experts_per_token: Size.nullish(),
  num_experts_per_tok: Size.nullish(),
  num_shared_experts: z.int().min(0).nullish(),
  n_shared_experts: z.int().min(0).nullish(),
  moe_intermediate_size: Size.default(1024),
  moe_renormalize: z.boolean().nullish(),
  norm_topk_prob: z.boolean().nullish(),
  routed_scaling_factor: z.number().positive().default(2.446),
  num_expert_group: Size.nullish(),
  n_group: Size.nullish(),
  topk_group: Size.default(1),
});

type Keys = z.infer<typeof Keys>;

/** Of the classes, whatever `rms_norm_eps` is. */
const LATENT_NORM_EPS = 1e-6;

/** The released code's name of a key, and that of the class in `transformers`: one of them, or both alike. */
function either<T>(keys: Keys, names: [keyof Keys, keyof Keys], usual: T, reading: Reading): T {
  const [first, second] = names.map((name) => keys[name] as T | null | undefined);
  if (first != null && second != null && first !== second)
    reading.problems.push(
      `two values where there should be one (${names[0]} ${first}, ${names[1]} ${second})`,
    );
  return first ?? second ?? usual;
}

/** The type of each layer: as a list has them, by numbers from 1 on, or as in the class. */
function typesOf(keys: Keys, reading: Reading): readonly string[] {
  const { num_hidden_layers: depth, layer_types: types, linear_attn_config: linear } = keys;
  if (types) return types;
  const { kda_layers: kda, full_attn_layers: full } = linear ?? {};
  if (!kda || !full)
    return Array.from({ length: depth }, (_, i) =>
      i > 0 && i % 4 === 0 ? 'full_attention' : 'linear_attention',
    );
  const numbers = [...kda, ...full].sort((a, b) => a - b);
  if (numbers.length !== depth || numbers.some((number, i) => number !== i + 1))
    reading.problems.push(
      `layers that are of no kind or of two (linear_attn_config.kda_layers, full_attn_layers; num_hidden_layers ${depth})`,
    );
  return Array.from({ length: depth }, (_, i) =>
    full.includes(i + 1) ? 'full_attention' : 'linear_attention',
  );
}

function mixerOf(keys: Keys) {
  const { linear_attn_config: linear } = keys;
  const dim = linear?.head_dim ?? keys.linear_head_dim ?? 128;
  return {
    kind: 'kimi-delta-attention',
    heads: linear?.num_heads ?? keys.linear_num_heads ?? 32,
    keyDim: dim,
    valueDim: dim,
    taps: linear?.short_conv_kernel_size ?? keys.linear_conv_kernel_dim ?? 4,
  } as const;
}

function expertsOf(keys: Keys, reading: Reading) {
  const shared = either(keys, ['num_shared_experts', 'n_shared_experts'], 1, reading);
  const groups = either(keys, ['num_expert_group', 'n_group'], 1, reading);
  return {
    count: either(keys, ['num_experts', 'num_local_experts'], 256, reading),
    topK: either(keys, ['num_experts_per_token', 'num_experts_per_tok'], 8, reading),
    intermediateSize: keys.moe_intermediate_size,
    sharedIntermediateSize: shared * keys.moe_intermediate_size,
    router: 'sigmoid',
    ...(groups > 1 && { groups: { count: groups, topK: keys.topk_group } }),
    normalizeTopK: either(keys, ['moe_renormalize', 'norm_topk_prob'], true, reading),
    scalingFactor: keys.routed_scaling_factor,
    balanceBias: {},
    // That is what the bias is in the place of.
    balanceCoefficient: 0,
    zCoefficient: 0,
  };
}

function writtenExperts(experts: ExpertsConfig): Json {
  return {
    num_experts: experts.count,
    num_experts_per_token: experts.topK,
    moe_intermediate_size: experts.intermediateSize,
    num_shared_experts: experts.sharedIntermediateSize / experts.intermediateSize,
    moe_router_activation_func: experts.router,
    moe_renormalize: experts.normalizeTopK,
    routed_scaling_factor: experts.scalingFactor,
    use_grouped_topk: true,
    num_expert_group: experts.groups?.count ?? 1,
    topk_group: experts.groups?.topK ?? 1,
    moe_layer_freq: 1,
  };
}

function kdaSettings(layer: LayerModel) {
  const active = activeMixer(layer);
  return active?.settings.kind === 'kimi-delta-attention' ? active.settings : undefined;
}

const NAMES: Readonly<Record<string, string>> = {
  'linear_attn.norm.weight': 'self_attn.o_norm.weight',
  'linear_attn.out_proj.weight': 'self_attn.o_proj.weight',
};

const EXPERT_MATRICES: Readonly<Record<string, string>> = { gate: 'w1', up: 'w3', down: 'w2' };

function placeOf(name: string, layer: LayerModel): string | TensorPlace {
  const settings = kdaSettings(layer);
  if (settings && name === 'linear_attn.A_log')
    return { name: 'self_attn.A_log', shape: [1, 1, settings.heads, 1] };
  if (name.startsWith('linear_attn.')) return NAMES[name] ?? name.replace('linear_attn.', 'self_attn.');
  if (!layer.experts) return name;
  return name
    .replace(/^mlp\.(experts\.\d+)\.(gate|up|down)_proj\./, (_, expert: string, matrix: string) => {
      return `mlp.${expert}.${EXPERT_MATRICES[matrix]}.`;
    })
    .replace('mlp.shared_expert.', 'mlp.shared_experts.')
    .replace(/^mlp\./, 'block_sparse_moe.');
}

/** Queries, keys and values have projections and convolutions of their own. */
function ownProjections(layer: LayerModel, prefix: string): MixedTensor[] {
  const settings = kdaSettings(layer);
  if (!settings) return [];
  const { heads, keyDim, valueDim, taps } = settings;
  const sizes = { keys: heads * keyDim, values: heads * valueDim, taps };
  return projectionsApart('self_attn', sizes, layer, prefix);
}

const LINEAR = honoured('mixer of linear layers');
const NO_POSITIONS = harmless('nothing is rotated');

export const kimiLinear: Family = {
  layout: 'kimi-linear',
  modelTypes: ['kimi_linear'],
  wrapperTypes: [],
  architectures: ['KimiLinearForCausalLM'],
  keys: {
    tie_word_embeddings: honoured('must be false: the class ties nothing'),
    auto_map: harmless('names the released code, which Sluice knows'),
    intermediate_size: honoured('intermediateSize of dense layers'),
    model_max_length: honoured('the longest sequence'),
    head_dim: harmless('neither kind of layers has it: see linear_attn_config and qk_nope_head_dim'),
    kv_lora_rank: honoured('keyValueLatent.rank'),
    q_lora_rank: only([], 'queries that are made of a latent'),
    qk_nope_head_dim: honoured('headDim, with qk_rope_head_dim'),
    qk_rope_head_dim: honoured('keyValueLatent.sharedKeyDim'),
    qk_head_dim: harmless('the sum of qk_nope_head_dim and qk_rope_head_dim'),
    v_head_dim: honoured('keyValueLatent.valueDim'),
    mla_use_nope: only([true], 'a rotary embedding'),
    rope_theta: NO_POSITIONS,
    rope_scaling: NO_POSITIONS,
    rope_parameters: NO_POSITIONS,
    attention_bias: only([false], 'biases of the projections'),
    linear_attn_config: LINEAR,
    linear_head_dim: LINEAR,
    linear_num_heads: LINEAR,
    linear_conv_kernel_dim: LINEAR,
    layer_types: honoured('layers'),
    mlp_layer_types: honoured('dense layers'),
    first_k_dense_replace: honoured('dense layers, the first ones, where there are no mlp_layer_types'),
    moe_layer_freq: only([1], 'experts in some layers only'),
    num_experts: honoured('experts.count'),
    num_local_experts: honoured('experts.count'),
    num_experts_per_token: honoured('experts.topK'),
    num_experts_per_tok: honoured('experts.topK'),
    num_shared_experts: honoured('experts.sharedIntermediateSize, in widths of an expert'),
    n_shared_experts: honoured('experts.sharedIntermediateSize, in widths of an expert'),
    moe_intermediate_size: honoured('experts.intermediateSize'),
    moe_renormalize: honoured('experts.normalizeTopK'),
    norm_topk_prob: honoured('experts.normalizeTopK'),
    moe_router_activation_func: only(['sigmoid'], 'another score of experts than sigmoids'),
    routed_scaling_factor: honoured('experts.scalingFactor'),
    use_grouped_topk: only([true], 'a choice of experts without regard to groups'),
    num_expert_group: honoured('experts.groups.count'),
    n_group: honoured('experts.groups.count'),
    topk_group: honoured('experts.groups.topK'),
    num_nextn_predict_layers: harmless('layers that predict further tokens are left out'),
    output_router_logits: harmless('whether Python returns them'),
  },
  read(config, reading) {
    const keys = parseKeys(config, Keys, reading.source);
    const { num_hidden_layers: depth, num_attention_heads: heads } = keys;
    const keyValueHeads = keys.num_key_value_heads ?? heads;
    if (keyValueHeads !== heads)
      reading.problems.push(
        `heads that share keys made of a latent (num_attention_heads ${heads}, num_key_value_heads ${keyValueHeads})`,
      );
    if (keys.tie_word_embeddings)
      reading.problems.push('an output projection that is the embedding (tie_word_embeddings true)');
    const types = layerTypes(typesOf(keys, reading), ['full_attention', 'linear_attention'], depth, reading);
    const dense = keys.first_k_dense_replace ?? 1;
    const listed =
      keys.mlp_layer_types ?? Array.from({ length: depth }, (_, i) => (i < dense ? 'dense' : 'sparse'));
    const feedForwards = perLayer('mlp_layer_types', listed, depth, reading);
    const hasExperts = feedForwards.includes('sparse');
    const mixer = mixerOf(keys);
    const kinds = types.map((type, layer) => {
      const isDense = hasExperts && feedForwards[layer] === 'dense';
      return {
        name: `${type === 'full_attention' ? 'full' : 'linear'}${isDense ? '-dense' : ''}`,
        kind: {
          positions: 'none' as const,
          ...(type === 'linear_attention' && { mixer }),
          ...(isDense && { feedForward: 'dense' as const }),
        },
      };
    });
    const headDim = keys.qk_nope_head_dim + keys.qk_rope_head_dim;
    const maxLength = either(keys, ['model_max_length', 'max_position_embeddings'], 1048576, reading);
    return {
      maxLength,
      model: {
        ...commonModel({ ...keys, head_dim: headDim }),
        rmsNormEps: keys.rms_norm_eps,
        qkNorm: false,
        gates: [],
        keyValueLatent: {
          rank: keys.kv_lora_rank,
          sharedKeyDim: keys.qk_rope_head_dim,
          valueDim: keys.v_head_dim,
          normEps: LATENT_NORM_EPS,
        },
        ...(feedForwards.includes('dense') && { intermediateSize: keys.intermediate_size }),
        ...(hasExperts && { experts: expertsOf(keys, reading) }),
        ...describeLayers(kinds),
      },
    };
  },
  write(model) {
    const layers = layerModels(model);
    const { experts, keyValueLatent: latent, headDim } = model;
    const [settings] = layers.flatMap((layer) => kdaSettings(layer) ?? []);
    const numbersOf = (type: string) =>
      layers.flatMap((layer, i) => (linearType(layer) === type ? [i + 1] : []));
    const { head_dim, ...common } = writtenCommon(model);
    const shared = latent?.sharedKeyDim ?? 0;
    const sparse = layers.findIndex((layer) => layer.experts);
    return {
      ...common,
      hidden_act: 'silu',
      rms_norm_eps: model.rmsNormEps,
      kv_lora_rank: latent?.rank ?? 1,
      q_lora_rank: null,
      qk_nope_head_dim: headDim - shared,
      qk_rope_head_dim: shared,
      v_head_dim: latent?.valueDim ?? headDim,
      mla_use_nope: true,
      ...NO_TOKENS,
      linear_attn_config: {
        head_dim: settings?.valueDim ?? 128,
        num_heads: settings?.heads ?? 32,
        short_conv_kernel_size: settings?.taps ?? 4,
        kda_layers: numbersOf('linear_attention'),
        full_attn_layers: numbersOf('full_attention'),
      },
      first_k_dense_replace: sparse < 0 ? layers.length : sparse,
      ...(model.intermediateSize !== undefined && { intermediate_size: model.intermediateSize }),
      ...(experts && writtenExperts(experts)),
    };
  },
  names: () => ({
    gate: 'behind-queries',
    ofLayer: placeOf,
    mixed: ownProjections,
    prefixes: ['model.'],
  }),
};
