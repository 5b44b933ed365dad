/**
 * The parameters of a model: which there are, what they are called in a checkpoint, and which worker holds them.
 *
 * A *parameter* is one array in memory that a kernel multiplies by; it may hold several *logical tensors* one after the
 * other (query, key and value projections; the matrices of all local experts), so that one product serves them all.
 * Logical tensors carry the names and shapes of the Hugging Face layout; checkpoints know nothing else.
 */

import { elementary, fillNormal, type RandomKey, randomKey, randomUniform } from '@sluice/core';
import { suitsTensorCores, type WeightPrecision } from '@sluice/engine';
import type { InitialValues, LayerTensor, RandomInitial } from './block.ts';
import type { ModelConfig } from './config.ts';
import { controlTensors, projectionCopies } from './controls/index.ts';
import { gateTensors, interleavedGate, namedGates } from './gates/gate.ts';
import { type KeyValueLatentConfig, LATENT_NAMES, latentWidths } from './latentAttention.ts';
import { type LayerModel, layerModels } from './layers.ts';
import { activeMixer } from './mixers/index.ts';

/**
 * Which part of the model a parameter is of. A gate whose rows are interleaved with the queries (see `interleavedGate`) is
 * of `attention`, as the matrix is.
 */
export const PARAMETER_GROUPS = [
  'embedding',
  'attention',
  'gate',
  'feedForward',
  'experts',
  'router',
  'norms',
  'head',
] as const;

export type ParameterGroup = (typeof PARAMETER_GROUPS)[number];

/** One tensor of the Hugging Face layout, f32, row-major. */
export interface LogicalTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Number of elements. */
  readonly size: number;
  /** Elements before it in its parameter. */
  readonly offset: number;
  readonly initial: InitialValues;
  /** Whether the optimizer moves it. What it does not move has a rule of its own, as the bias that balances experts has. */
  readonly isTrained: boolean;
}

export interface ParameterSpec {
  readonly name: string;
  /** Shape of the array that this worker holds. */
  readonly shape: readonly number[];
  readonly size: number;
  readonly tensors: readonly LogicalTensor[];
  /** Whether weight decay applies: to matrices, not to norms, biases and the like. */
  readonly decay: boolean;
  /** `replicated`: every worker holds it; `expert`: only the workers of one expert-parallel rank. */
  readonly placement: 'replicated' | 'expert';
  readonly group: ParameterGroup;
  /** Backward passes complete gradients stage by stage, 0 first (the head), the embedding last. */
  readonly stage: number;
  /** In which precision passes read it, all of them; `single` where one of them does. */
  readonly readIn: WeightPrecision;
}

/** Which experts this worker holds: those of `rank` of `size` equal parts. */
export interface ExpertShard {
  readonly rank: number;
  readonly size: number;
}

/** All of the experts. */
const WHOLE: ExpertShard = { rank: 0, size: 1 };

type TensorDraft = Pick<LogicalTensor, 'name' | 'shape'>;

function elements(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

function parameter(
  name: string,
  shape: readonly number[],
  tensors: readonly TensorDraft[],
  options: {
    initial?: LogicalTensor['initial'];
    decay?: boolean;
    placement?: ParameterSpec['placement'];
    group: ParameterGroup;
    stage: number;
    isTrained?: boolean;
    readIn?: WeightPrecision;
  },
): ParameterSpec {
  let offset = 0;
  const placed = tensors.map((tensor) => {
    const size = elements(tensor.shape);
    const { initial = 'normal', isTrained = true } = options;
    const logical: LogicalTensor = { ...tensor, size, offset, initial, isTrained };
    offset += size;
    return logical;
  });
  return {
    name,
    shape,
    size: elements(shape),
    tensors: placed,
    decay: options.decay ?? true,
    placement: options.placement ?? 'replicated',
    group: options.group,
    stage: options.stage,
    readIn: options.readIn ?? 'single',
  };
}

/** A parameter that is one logical tensor of the same name. */
function single(
  name: string,
  shape: readonly number[],
  options: { stage: number; group: ParameterGroup; readIn?: WeightPrecision },
): ParameterSpec {
  return parameter(name, shape, [{ name, shape }], options);
}

/** The same of weights of a linear layer. */
function linearLayer(
  name: string,
  shape: readonly number[],
  options: { stage: number; group: ParameterGroup },
): ParameterSpec {
  return single(name, shape, { ...options, readIn: linearReadsIn(shape) });
}

/** How a linear layer reads weights of this shape. */
function linearReadsIn(shape: readonly number[]): WeightPrecision {
  return suitsTensorCores(shape) ? 'activations' : 'single';
}

/** The weights of a norm, which multiplies by them, or by 1 + them where they are centred on zero. */
function gain(name: string, width: number, stage: number, isZeroCentred: boolean): ParameterSpec {
  return parameter(name, [width], [{ name, shape: [width] }], {
    ...{ stage, group: 'norms', initial: isZeroCentred ? 0 : 1, decay: false },
  });
}

/**
 * Columns of the query-gate-key-value projection as attention takes it; `key` and `value` are those of all copies together.
 * @param model a layer's; its gate that is interleaved with the queries counts, others have matrices of their own
 */
export function projectionWidths(model: LayerModel): {
  query: number;
  key: number;
  value: number;
  total: number;
} {
  const { numAttentionHeads, numKeyValueHeads, headDim } = model;
  const gateWidth = { none: 0, elementwise: headDim, headwise: 1 }[interleavedGate(model)];
  const query = numAttentionHeads * (headDim + gateWidth);
  const copies = projectionCopies(model);
  const key = numKeyValueHeads * headDim * copies.key;
  const value = numKeyValueHeads * headDim * copies.value;
  return { query, key, value, total: query + key + value };
}

/** The matrix of keys or values; where there are several copies, each is a tensor. */
function copiedTensors(name: string, rows: number, columns: number, copies: number): TensorDraft[] {
  const shape = [rows / copies, columns];
  if (copies === 1) return [{ name: `${name}.weight`, shape }];
  return Array.from({ length: copies }, (_, copy) => ({ name: `${name}.experts.${copy}.weight`, shape }));
}

/** What mixes the tokens of a layer. */
function mixingParameters(model: LayerModel, prefix: string, stage: number): ParameterSpec[] {
  const active = activeMixer(model);
  const { keyValueLatent } = model;
  if (keyValueLatent) return latentParameters({ ...model, keyValueLatent }, prefix, stage);
  if (!active) return attentionParameters(model, `${prefix}.self_attn`, stage);
  return active.mixer
    .parameters(active.settings, model)
    .map(({ name, shape, tensors, isLinear, ...options }) => {
      const named = tensors.map((tensor) => ({ ...tensor, name: `${prefix}.${tensor.name}` }));
      const readIn = isLinear ? linearReadsIn(shape) : 'single';
      return parameter(`${prefix}.${name}`, shape, named, { stage, readIn, ...options });
    });
}

/** Of attention whose keys and values are made of a latent. @param prefix of the layer */
function latentParameters(
  model: LayerModel & { keyValueLatent: KeyValueLatentConfig },
  prefix: string,
  stage: number,
): ParameterSpec[] {
  const { hiddenSize, numAttentionHeads, keyValueLatent } = model;
  const { rank, sharedKeyDim, valueDim } = keyValueLatent;
  const { query } = projectionWidths(model);
  const latent = rank + sharedKeyDim;
  const name = (own: string) => `${prefix}.${own}`;
  const made = [numAttentionHeads * latentWidths(model).row, rank];
  const projected = [query + latent, hiddenSize];
  const ofAttention = { stage, group: 'attention' } as const;
  return [
    parameter(
      name('self_attn.qkv_proj.weight'),
      projected,
      [
        { name: name('self_attn.q_proj.weight'), shape: [query, hiddenSize] },
        { name: name(LATENT_NAMES.latent), shape: [latent, hiddenSize] },
      ],
      { ...ofAttention, readIn: linearReadsIn(projected) },
    ),
    gain(name(LATENT_NAMES.norm), rank, stage, model.zeroCentredNorms !== undefined),
    linearLayer(name(LATENT_NAMES.keysAndValues), made, ofAttention),
    linearLayer(name('self_attn.o_proj.weight'), [hiddenSize, numAttentionHeads * valueDim], ofAttention),
  ];
}

function attentionParameters(model: LayerModel, prefix: string, stage: number): ParameterSpec[] {
  const { hiddenSize, numAttentionHeads, headDim, qkNorm } = model;
  const widths = projectionWidths(model);
  const copies = projectionCopies(model);
  const projected = [widths.total, hiddenSize];
  const ofAttention = { stage, group: 'attention' } as const;
  const projection = parameter(
    `${prefix}.qkv_proj.weight`,
    projected,
    [
      { name: `${prefix}.q_proj.weight`, shape: [widths.query, hiddenSize] },
      ...copiedTensors(`${prefix}.k_proj`, widths.key, hiddenSize, copies.key),
      ...copiedTensors(`${prefix}.v_proj`, widths.value, hiddenSize, copies.value),
    ],
    { ...ofAttention, readIn: linearReadsIn(projected) },
  );
  const isZeroCentred = model.zeroCentredNorms !== undefined;
  const norms =
    qkNorm === true || qkNorm === 'all-heads'
      ? (['q_norm', 'k_norm'] as const).map((n) => {
          const heads = { q_norm: numAttentionHeads, k_norm: model.numKeyValueHeads }[n];
          const width = qkNorm === 'all-heads' ? heads * headDim : headDim;
          return gain(`${prefix}.${n}.weight`, width, stage, isZeroCentred);
        })
      : [];
  return [
    projection,
    ...norms,
    linearLayer(`${prefix}.o_proj.weight`, [hiddenSize, numAttentionHeads * headDim], ofAttention),
  ];
}

/** Gates with tensors of their own, and controls. */
function variantParameters(model: LayerModel, prefix: string, stage: number): ParameterSpec[] {
  const placed = (group: ParameterGroup, { name, shape, initial, decay, isLinear }: LayerTensor) => {
    const whole = { name: `${prefix}.${name}`, shape };
    const readIn = isLinear ? linearReadsIn(shape) : 'single';
    return parameter(whole.name, shape, [whole], { stage, group, initial, decay, readIn });
  };
  const gates = namedGates(model).flatMap((gate) => gateTensors(gate, model));
  return [
    ...gates.map((tensor) => placed('gate', tensor)),
    ...controlTensors(model).map((tensor) =>
      tensor.isGain ? placed('norms', centredGain(tensor, model)) : placed('attention', tensor),
    ),
  ];
}

/** A norm of a control is stored as the others of its layer are. */
function centredGain(tensor: LayerTensor, { zeroCentredNorms }: LayerModel): LayerTensor {
  if (zeroCentredNorms === undefined || typeof tensor.initial !== 'number') return tensor;
  return { ...tensor, initial: tensor.initial - 1 };
}

/** The gate and up projections as one parameter [2F, C], and the down projection [C, F]. */
function feedForwardParameters(
  prefix: string,
  hidden: number,
  inner: number,
  stage: number,
  group: ParameterGroup,
): ParameterSpec[] {
  const options = { stage, group, readIn: 'activations' } as const;
  const gateUp = parameter(
    `${prefix}.gate_up_proj.weight`,
    [2 * inner, hidden],
    ['gate_proj', 'up_proj'].map((name) => ({ name: `${prefix}.${name}.weight`, shape: [inner, hidden] })),
    options,
  );
  return [gateUp, single(`${prefix}.down_proj.weight`, [hidden, inner], options)];
}

/** The bias of a router's choice; the name is that of DeepSeek-V3 and its kin. */
const BALANCE_BIAS = 'gate.e_score_correction_bias';

/** Name of the parameter by which the choice of a layer's experts is balanced, of a model that has it. */
export function balanceBiasName(layer: number): string {
  return `model.layers.${layer}.mlp.${BALANCE_BIAS}`;
}

function balanceBiasParameter(name: string, count: number, stage: number): ParameterSpec {
  const shape = [count];
  return parameter(name, shape, [{ name, shape }], {
    ...{ stage, group: 'router', initial: 0, decay: false, isTrained: false },
  });
}

function expertParameters(
  model: LayerModel,
  prefix: string,
  shard: ExpertShard,
  stage: number,
): ParameterSpec[] {
  const { hiddenSize, experts } = model;
  if (!experts) return [];
  const { count, intermediateSize: inner, sharedIntermediateSize, sharedGate, balanceBias } = experts;
  const local = count / shard.size;
  const held = Array.from({ length: local }, (_, i) => `${prefix}.experts.${shard.rank * local + i}`);
  const options = { stage, placement: 'expert', group: 'experts', readIn: 'activations' } as const;
  return [
    single(`${prefix}.gate.weight`, [count, hiddenSize], { stage, group: 'router' }),
    ...(balanceBias ? [balanceBiasParameter(`${prefix}.${BALANCE_BIAS}`, count, stage)] : []),
    parameter(
      `${prefix}.experts.gate_up_proj.weight`,
      [local, 2 * inner, hiddenSize],
      held.flatMap((expert) => [
        { name: `${expert}.gate_proj.weight`, shape: [inner, hiddenSize] },
        { name: `${expert}.up_proj.weight`, shape: [inner, hiddenSize] },
      ]),
      options,
    ),
    parameter(
      `${prefix}.experts.down_proj.weight`,
      [local, hiddenSize, inner],
      held.map((expert) => ({ name: `${expert}.down_proj.weight`, shape: [hiddenSize, inner] })),
      options,
    ),
    ...(sharedIntermediateSize > 0
      ? feedForwardParameters(`${prefix}.shared_expert`, hiddenSize, sharedIntermediateSize, stage, 'experts')
      : []),
    ...(sharedGate
      ? [linearLayer(`${prefix}.shared_expert_gate.weight`, [1, hiddenSize], { stage, group: 'gate' })]
      : []),
  ];
}

/** The parameters of one layer that a worker holds. */
export function layerParameters(
  model: LayerModel,
  layer: number,
  shard: ExpertShard = WHOLE,
): ParameterSpec[] {
  const prefix = `model.layers.${layer}`;
  const stage = model.numLayers - layer;
  const isZeroCentred = model.zeroCentredNorms !== undefined;
  const norm = (name: string) => gain(`${prefix}.${name}.weight`, model.hiddenSize, stage, isZeroCentred);
  const isBefore = model.normPlacement !== 'after';
  return [
    ...(isBefore ? [norm('input_layernorm')] : []),
    ...mixingParameters(model, prefix, stage),
    ...variantParameters(model, prefix, stage),
    norm('post_attention_layernorm'),
    ...(model.intermediateSize === undefined
      ? expertParameters(model, `${prefix}.mlp`, shard, stage)
      : feedForwardParameters(
          `${prefix}.mlp`,
          model.hiddenSize,
          model.intermediateSize,
          stage,
          'feedForward',
        )),
    ...(isBefore ? [] : [norm('post_feedforward_layernorm')]),
  ];
}

/**
 * All parameters that a worker holds, in the order of the forward pass.
 * @param shard its part of the experts
 */
export function modelParameters(model: ModelConfig, shard: ExpertShard = WHOLE): ParameterSpec[] {
  const layers = layerModels(model).flatMap((own, layer) => layerParameters(own, layer, shard));
  const [embedding, ...rest] = outerParameters(model);
  return [embedding!, ...layers, ...rest];
}

/** The parameters of no layer: the embedding first. */
export function outerParameters(model: ModelConfig): ParameterSpec[] {
  const { vocabularySize, hiddenSize, numLayers, tieWordEmbeddings, zeroCentredNorms } = model;
  const table = (name: string, stage: number, group: ParameterGroup) =>
    single(name, [vocabularySize, hiddenSize], { stage, group, readIn: 'activations' });
  return [
    table('model.embed_tokens.weight', numLayers + 1, 'embedding'),
    gain('model.norm.weight', hiddenSize, 0, zeroCentredNorms === 'all'),
    ...(tieWordEmbeddings ? [] : [table('lm_head.weight', 0, 'head')]),
  ];
}

/** The logical tensors of the whole model in their canonical order, whoever holds them. */
export function modelTensors(model: ModelConfig): LogicalTensor[] {
  return modelParameters(model).flatMap((spec) => spec.tensors);
}

/**
 * Fills a logical tensor with its initial values: matrices with normal numbers of the configured deviation, norms with
 * ones, and so on. They depend only on the seed and the tensor's name, so on no sharding.
 */
export function initializeTensor(
  { name, initial }: LogicalTensor,
  values: Float32Array,
  model: ModelConfig,
  seed: number,
): void {
  const key = () => randomKey(seed, 'init', name);
  if (initial === 'normal') fillNormal(key(), values, model.initializerRange);
  else if (typeof initial === 'number') values.fill(initial);
  else fillRandom(key(), values, initial);
}

function fillRandom(key: RandomKey, values: Float32Array, { distribution, from, to }: RandomInitial): void {
  const { exp, log } = elementary;
  const between = (low: number, high: number, i: number) => low + (high - low) * randomUniform(key, i);
  const draw = {
    uniform: (i: number) => between(from, to, i),
    'log-of-uniform': (i: number) => log(between(from, to, i)),
    // softplus⁻¹(t) = log(e^t − 1)
    'time-step': (i: number) => log(exp(exp(between(log(from), log(to), i))) - 1),
  }[distribution];
  for (let i = 0; i < values.length; i++) values[i] = draw(i);
}
