/**
 * What becomes of each key of a Hugging Face `config.json`: it is honoured, is known to change nothing that Sluice computes,
 * or is refused unless it asks for nothing. A key that is not in the table is refused by its name: it may stand for a part
 * of the model that Sluice does not have.
 *
 * Read off the classes Qwen3 and Qwen3-MoE of `transformers` 4.57 and 5.24, and the paper's released code. Keys that only
 * other families have are here where they are often met, so that the refusal can say what they mean.
 */

import { isDeepStrictEqual } from 'node:util';
import { familyOf } from './families/index.ts';
import { harmless, honoured, judged, type KeyRule, only, show } from './keyRules.ts';
import type { ConfigLayout, PlainLayout } from './layouts.ts';

const GENERATION = harmless('a setting of generation, no part of the model');
const TOKENS = honoured('ids of tokens, for generating and exporting');
const LABELS = harmless('of classifiers');
const OUTPUTS = harmless('what calls in Python return');
const FILE = harmless('says where the file comes from');
const ENGINE = harmless('which implementation computes the same');
const WINDOW = harmless('without use_sliding_window');
const DENSE_ONLY = only([0], 'experts in a dense model');
const SHARED = only([0], 'shared experts');

/** Rules of a key that differ between layouts. Families that have such a key say themselves what it means. */
type LayoutRules = Readonly<Record<Exclude<PlainLayout, 'qwen3-moe-fused'>, KeyRule>>;

const inMoe = (moe: KeyRule, dense: KeyRule = DENSE_ONLY): LayoutRules => ({
  gated: dense,
  qwen3: dense,
  'qwen3-moe': moe,
});
const inGated = (gated: KeyRule, others: KeyRule): LayoutRules => ({
  gated,
  qwen3: others,
  'qwen3-moe': others,
});

export const CONFIG_KEYS: Readonly<Record<string, KeyRule | LayoutRules>> = {
  // Which model it is.
  model_type: honoured('the layout'),
  architectures: architectures(['Qwen3ForCausalLM', 'Qwen3MoeForCausalLM']),
  auto_map: inGated(
    harmless('names the paper’s code, which Sluice knows'),
    judged([{}], 'code of its own, which may compute something else'),
  ),
  text_config: only([], 'a language model inside another one'),
  vision_config: only([], 'a model that sees'),

  // Sizes.
  vocab_size: honoured('vocabularySize'),
  hidden_size: honoured('hiddenSize'),
  intermediate_size: inMoe(harmless('no layer is dense'), honoured('intermediateSize')),
  num_hidden_layers: honoured('numLayers'),
  num_attention_heads: honoured('numAttentionHeads'),
  num_key_value_heads: honoured('numKeyValueHeads'),
  head_dim: honoured('headDim'),
  max_position_embeddings: honoured('the longest sequence, and YaRN’s where it names none'),
  max_length: GENERATION,

  // What a layer computes.
  hidden_act: only(['silu', 'swish'], 'another activation than silu'),
  rms_norm_eps: honoured('rmsNormEps'),
  tie_word_embeddings: honoured('tieWordEmbeddings'),
  initializer_range: honoured('initializerRange'),
  attention_bias: inGated(
    harmless('that code reads qkv_bias alone'),
    only([false], 'biases of the projections'),
  ),
  qkv_bias: inGated(only([false], 'biases of the projections'), only([false], 'biases of the projections')),
  attention_out_bias: only([false], 'a bias of attention’s output projection'),
  mlp_bias: only([false], 'biases of the feed-forward layer'),
  use_qk_norm: inGated(honoured('qkNorm'), only([true], 'queries and keys without a norm')),
  qk_norm: only([true], 'queries and keys without a norm'),
  headwise_attn_output_gate: honoured('gate'),
  elementwise_attn_output_gate: honoured('gate'),
  attn_output_gate: only([false], 'the gate of another layout'),
  attention_dropout: judged([0], 'dropout in attention while training'),
  hidden_dropout: judged([0], 'dropout while training'),
  layerdrop: judged([0], 'layers that are dropped while training'),
  clip_qkv: only([], 'queries, keys and values that are clamped'),
  attn_logit_softcapping: only([0], 'a soft cap on attention’s logits'),
  final_logit_softcapping: only([0], 'a soft cap on the logits'),
  query_pre_attn_scalar: only([], 'another scale of attention'),
  attention_multiplier: only([], 'another scale of attention'),
  attn_scale: only([], 'another scale of attention'),
  embedding_multiplier: only([1], 'scaled embeddings'),
  scale_emb: only([1], 'scaled embeddings'),
  residual_multiplier: only([1], 'scaled residuals'),
  scale_depth: only([1], 'scaled residuals'),
  logits_scaling: only([1], 'scaled logits'),
  logit_scale: only([1], 'scaled logits'),
  dim_model_base: only([], 'scaled logits'),
  mup_enabled: only([false], 'scaled embeddings'),

  // Layers of different kinds.
  use_sliding_window: only([false], 'attention in a sliding window'),
  sliding_window: WINDOW,
  max_window_layers: WINDOW,
  sliding_window_pattern: only([], 'attention in a sliding window in some layers'),
  layer_types: honoured('every layer must be full_attention'),
  full_attention_interval: only([1], 'layers of another kind between those of full attention'),
  attention_chunk_size: only([0], 'attention in chunks'),
  no_rope_layers: only([[]], 'layers without a rotary embedding'),
  no_rope_layer_interval: only([], 'layers without a rotary embedding'),
  per_layer_config: only([{}], 'layers of their own configuration'),
  num_nextn_predict_layers: only([0], 'layers that predict further tokens'),
  mtp_num_hidden_layers: only([0], 'layers that predict further tokens'),

  // The rotary embedding: see rope.ts.
  rope_theta: honoured('ropeTheta'),
  rope_scaling: honoured('ropeScaling; its own keys are judged too'),
  rope_parameters: honoured('ropeTheta and ropeScaling; its own keys are judged too'),
  partial_rotary_factor: only([1], 'a rotary embedding of part of a head'),
  rope_local_base_freq: only([], 'a second rotary embedding'),
  use_mrope: only([false], 'a rotary embedding of several positions'),
  use_dynamic_ntk: only([false], 'a rotary embedding that follows the length'),
  use_logn_attn: only([false], 'attention that is scaled by the length'),
  rope_interleave: only([false], 'a rotary embedding of neighbouring channels'),
  original_max_position_embeddings: only(
    [],
    'YaRN’s trained length outside of rope_scaling; put it in there',
  ),

  // Experts.
  num_experts: inMoe(honoured('experts.count')),
  num_local_experts: inMoe(honoured('experts.count')),
  num_experts_per_tok: inMoe(honoured('experts.topK')),
  moe_intermediate_size: inMoe(honoured('experts.intermediateSize')),
  norm_topk_prob: inMoe(honoured('experts.normalizeTopK'), harmless('the model is dense')),
  router_aux_loss_coef: inMoe(honoured('experts.balanceCoefficient'), harmless('the model is dense')),
  output_router_logits: harmless('whether Python returns them; Sluice balances by router_aux_loss_coef'),
  decoder_sparse_step: inMoe(only([1], 'experts in some layers only'), harmless('the model is dense')),
  mlp_only_layers: inMoe(only([[]], 'layers without experts'), harmless('the model is dense')),
  shared_expert_intermediate_size: SHARED,
  n_shared_experts: SHARED,
  num_shared_experts: SHARED,
  first_k_dense_replace: only([0], 'layers without experts'),
  router_jitter_noise: judged([0], 'noise in the router while training'),
  routed_scaling_factor: only([1], 'scaled weights of experts'),
  scoring_func: only(['softmax'], 'another score of experts'),
  topk_method: only(['greedy'], 'another choice of experts'),
  n_group: only([1], 'groups of experts'),
  topk_group: only([1], 'groups of experts'),

  // How the weights are stored.
  quantization_config: only([], 'quantised weights; save the model in bf16'),
  quantization: only([], 'quantised weights; save the model in bf16'),
  compression_config: only([], 'compressed weights; save the model in bf16'),
  pruned_heads: only([{}], 'heads that were taken out'),
  torch_dtype: harmless('weights are taken as they are stored, and computed with in f32'),
  dtype: harmless('weights are taken as they are stored, and computed with in f32'),
  use_bfloat16: harmless('weights are taken as they are stored, and computed with in f32'),

  // Other uses of the model.
  is_encoder_decoder: only([false], 'an encoder and a decoder'),
  is_decoder: harmless('the classes attend to the past alone in any case'),
  add_cross_attention: only([false], 'attention to another model'),
  cross_attention_hidden_size: only([], 'attention to another model'),
  tie_encoder_decoder: harmless('there is no encoder'),
  num_labels: LABELS,
  id2label: LABELS,
  label2id: LABELS,
  problem_type: LABELS,
  finetuning_task: LABELS,
  task_specific_params: GENERATION,

  // What concerns Python alone.
  transformers_version: FILE,
  _name_or_path: FILE,
  name_or_path: FILE,
  _commit_hash: FILE,
  unsloth_version: FILE,
  unsloth_fixed: FILE,
  use_cache: ENGINE,
  attn_implementation: ENGINE,
  _attn_implementation: ENGINE,
  _attn_implementation_autoset: ENGINE,
  experts_implementation: ENGINE,
  _experts_implementation: ENGINE,
  chunk_size_feed_forward: ENGINE,
  base_model_tp_plan: ENGINE,
  base_model_pp_plan: ENGINE,
  base_model_ep_plan: ENGINE,
  torchscript: ENGINE,
  pretraining_tp: ENGINE,
  tf_legacy_loss: ENGINE,
  return_dict: OUTPUTS,
  use_return_dict: OUTPUTS,
  output_hidden_states: OUTPUTS,
  output_attentions: OUTPUTS,
  _output_attentions: OUTPUTS,
  tie_last_hidden_states: OUTPUTS,

  // Text.
  bos_token_id: TOKENS,
  eos_token_id: TOKENS,
  pad_token_id: TOKENS,
  sep_token_id: harmless('the model is given tokens, whatever they are called'),
  decoder_start_token_id: harmless('there is no encoder'),
  tokenizer_class: harmless('`tokenizer.json` says it all'),
  prefix: GENERATION,
  ...Object.fromEntries(generationKeys().map((key) => [key, GENERATION])),
};

function architectures(classes: readonly string[]): KeyRule {
  return judged([...classes.map((name) => [name]), []], 'another class than the language model');
}

/** Settings of generation that older versions of `transformers` wrote into `config.json`. */
function generationKeys(): string[] {
  return [
    'bad_words_ids',
    'begin_suppress_tokens',
    'diversity_penalty',
    'do_sample',
    'early_stopping',
    'encoder_no_repeat_ngram_size',
    'exponential_decay_length_penalty',
    'forced_bos_token_id',
    'forced_eos_token_id',
    'length_penalty',
    'max_new_tokens',
    'min_length',
    'no_repeat_ngram_size',
    'num_beam_groups',
    'num_beams',
    'num_return_sequences',
    'output_scores',
    'remove_invalid_values',
    'repetition_penalty',
    'return_dict_in_generate',
    'suppress_tokens',
    'temperature',
    'top_k',
    'top_p',
    'typical_p',
  ];
}

/** What becomes of a key of a layout's `config.json`; undefined for one that is not known. */
export function keyRule(key: string, layout: ConfigLayout): KeyRule | undefined {
  const family = familyOf(layout);
  if (family && Object.hasOwn(family.keys, key)) return family.keys[key];
  if (family && key === 'architectures') return architectures(family.architectures);
  if (!Object.hasOwn(CONFIG_KEYS, key)) return undefined;
  const rule = CONFIG_KEYS[key]!;
  if ('kind' in rule) return rule;
  return (rule as Partial<Record<ConfigLayout, KeyRule>>)[layout];
}

/**
 * Judges every key of a `config.json`, but not the values of those that are honoured.
 * @param ignore names of keys to pass over
 * @param problems gets a sentence for each key that is refused
 * @returns the keys that were passed over, with their values
 */
export function judgeKeys(
  config: Readonly<Record<string, unknown>>,
  layout: ConfigLayout,
  ignore: readonly string[],
  problems: string[],
): Record<string, unknown> {
  const ignored: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(config)) {
    const refusal = refusalOf(keyRule(key, layout), key, value);
    if (refusal === undefined) continue;
    if (refusal.ignorable && ignore.includes(key)) ignored[key] = value;
    else problems.push(refusal.reason);
  }
  return ignored;
}

function refusalOf(
  rule: KeyRule | undefined,
  key: string,
  value: unknown,
): { reason: string; ignorable: boolean } | undefined {
  if (rule === undefined) {
    const reason = `${key} ${show(value)}, a key that Sluice does not know (if it changes nothing: sluice import … --ignore-config ${key})`;
    return { reason, ignorable: true };
  }
  if (rule.kind !== 'refused' || value === null) return undefined;
  if (rule.unless.some((allowed) => isDeepStrictEqual(allowed, value))) return undefined;
  const how = rule.ignorable ? `; to do without: sluice import … --ignore-config ${key}` : '';
  return { reason: `${rule.what} (${key} ${show(value)}${how})`, ignorable: rule.ignorable };
}
