/** Operations of models on a device's memory, as launches of their kernels. N: tokens; C: channels. */

import { invariant } from '@sluice/core';
import { type Activations, bytesOf, type CudaDevice, type DeviceArray, kernelFor } from './device.ts';
import type { Grid } from './driver.ts';
import { sumRows } from './flatArithmetic.ts';
import { floatProduct } from './floatProducts.ts';
import { TOKENS_TOGETHER } from './memorySizes.ts';
import { mapOf, TILES, type Tile, tileFor } from './productTiles.ts';

type Floats = DeviceArray<'f32'>;

/** Rows that a block has, one a warp. */
const ROWS_OF_BLOCK = 8;
const THREADS = 256;
/** Of `rmsNorm.cu`: tokens whose contributions to the gain's gradient are added up together. */
const ROWS_OF_PART = 64;

function rowsOf(x: Activations, width: number): number {
  const rows = x.length / width;
  invariant(Number.isInteger(rows), `${x.length} activations are no rows of ${width}`);
  return rows;
}

/**
 * y = x · r · gain with r = 1 / √(mean(x²) + ε).
 * @param x [N, C]
 * @param gain [C]
 * @param y [N, C]
 * @param inverse [N], gets r, which the gradient needs
 */
export function rmsNorm(
  x: Activations,
  gain: Floats,
  y: Activations,
  inverse: Floats,
  epsilon: number,
): void {
  const width = gain.length;
  const rows = rowsOf(x, width);
  if (rows === 0) return;
  const grid = [Math.ceil(rows / ROWS_OF_BLOCK)] as const;
  kernelFor('rmsNorm', 'rmsNorm', x).launch(grid, 0, x, gain, y, inverse, rows, width, epsilon);
}

export interface RmsNormGradients {
  /** [N, C]; may be dy. */
  readonly dx: Activations;
  /** [C]; null where nobody wants it. */
  readonly dGain: Floats | null;
  /** Whether to add to `dGain`. */
  readonly accumulate: boolean;
}

/** The gradients of `rmsNorm` from dy [N, C], x and r of each row. */
export function rmsNormBackward(
  { x, gain, dy, inverse }: { x: Activations; gain: Floats; dy: Activations; inverse: Floats },
  { dx, dGain, accumulate }: RmsNormGradients,
): void {
  const width = gain.length;
  const rows = rowsOf(x, width);
  // First what reads dy, which dx may overwrite.
  if (dGain) {
    const parts = Math.ceil(rows / ROWS_OF_PART);
    const sums = x.device.allocate(parts * width, 'f32');
    const grid = [Math.ceil(width / THREADS), parts] as const;
    if (rows > 0) kernelFor('rmsNorm', 'rmsNormGain', x).launch(grid, 0, x, dy, inverse, sums, rows, width);
    sumRows(dGain, sums, accumulate);
    x.device.free(sums);
  }
  const grid = [Math.ceil(rows / ROWS_OF_BLOCK)] as const;
  if (rows > 0)
    kernelFor('rmsNorm', 'rmsNormBackward', x).launch(grid, 0, x, gain, dy, inverse, dx, rows, width);
}

export interface RotaryArguments {
  readonly x: Activations;
  /** [positions, D/2] each */
  readonly cosine: Floats;
  readonly sine: Floats;
  /** [N], of each token in its document */
  readonly position: DeviceArray<'i32'>;
  readonly headDim: number;
  /** Turns back, which is the gradient. */
  readonly back?: boolean;
}

/** Turns every head of x [N, heads · D] to its position; y may be x. */
export function rotaryEmbedding(
  { x, cosine, sine, position, headDim, back = false }: RotaryArguments,
  y: Activations,
): void {
  const half = headDim / 2;
  const tokens = position.length;
  const heads = tokens === 0 ? 0 : x.length / tokens / headDim;
  invariant(
    Number.isInteger(half) && Number.isInteger(heads),
    `${x.length} activations are no heads of ${headDim}`,
  );
  const pairs = x.length / 2;
  if (pairs === 0) return;
  const args = [x, cosine, sine, position, y, pairs, heads, half, Number(back)];
  kernelFor('rotaryEmbedding', 'rotaryEmbedding', x).launch([Math.ceil(pairs / THREADS)], 0, ...args);
}

/** x + y into z, which may be one of them. */
export function addResidual(x: Activations, y: Activations, z: Activations): void {
  invariant(
    x.length === y.length && x.length === z.length,
    `${x.length} + ${y.length} activations for ${z.length}`,
  );
  if (x.length === 0) return;
  kernelFor('addResidual', 'addResidual', x).launch(
    [Math.ceil(x.length / (4 * THREADS))],
    0,
    x,
    y,
    z,
    x.length,
  );
}

/** A block for the packs, 16 bytes each, of that many rows of units. */
function packGrid({ storage }: Activations, rows: number, units: number): Grid {
  const packs = Math.ceil(units / (16 / bytesOf(storage)));
  return [Math.ceil((rows * packs) / THREADS)];
}

/**
 * hidden [N, F] = silu(gate) · up of preactivations [N, 2F], the gate's first.
 * @param limit of both factors; none when 0
 */
export function swiGlu(preactivations: Activations, hidden: Activations, units: number, limit = 0): void {
  const rows = rowsOf(preactivations, 2 * units);
  invariant(hidden.length === rows * units, `${hidden.length} hidden units for ${rows} rows of ${units}`);
  if (rows === 0) return;
  const grid = packGrid(hidden, rows, units);
  kernelFor('swiGlu', 'swiGlu', hidden).launch(grid, 0, preactivations, hidden, rows, units, limit);
}

/** The way back: both outputs may take the place of the input of their shape. */
export function swiGluBackward(
  { preactivations, dHidden }: { preactivations: Activations; dHidden: Activations },
  { dPreactivations, hidden }: { dPreactivations: Activations; hidden: Activations },
  units: number,
  limit = 0,
): void {
  const rows = rowsOf(preactivations, 2 * units);
  invariant(dHidden.length === rows * units, `${dHidden.length} hidden units for ${rows} rows of ${units}`);
  if (rows === 0) return;
  const args = [preactivations, dHidden, dPreactivations, hidden, rows, units, limit];
  kernelFor('swiGlu', 'swiGluBackward', dHidden).launch(packGrid(dHidden, rows, units), 0, ...args);
}

/** Token ids on a device, and which tokens have which id. */
export interface EmbeddingTokens {
  /** [N] */
  readonly ids: DeviceArray<'i32'>;
  /** Ids that occur. */
  readonly rows: DeviceArray<'i32'>;
  /** Where each one's tokens begin in `sorted`, and where the last one's end. */
  readonly starts: DeviceArray<'i32'>;
  /** Tokens by id, those of one id in order. */
  readonly sorted: DeviceArray<'i32'>;
}

/** Brings token ids, each below the vocabulary, to a device. */
export function tokenIds(
  device: Pick<CudaDevice, 'upload'>,
  ids: Int32Array,
  vocabulary: number,
): DeviceArray<'i32'> {
  const wrong = ids.findIndex((id) => id < 0 || id >= vocabulary);
  invariant(
    wrong < 0,
    `token ${ids[wrong]} at position ${wrong} is not among the ${vocabulary} of the vocabulary`,
  );
  return device.upload(ids, 'i32');
}

/** Brings token ids with what the gradient needs. */
export function embeddingTokens(
  device: Pick<CudaDevice, 'upload'>,
  ids: Int32Array,
  vocabulary: number,
): EmbeddingTokens {
  // Numbers that are sorted by id, and then by place, without a function that compares.
  const keys = Float64Array.from(ids, (id, place) => id * ids.length + place).sort();
  const sorted = Int32Array.from(keys, (key) => key % ids.length);
  const starts: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    if (i === 0 || ids[sorted[i]!] !== ids[sorted[i - 1]!]) starts.push(i);
  }
  const upload = (values: Iterable<number>) => device.upload(Int32Array.from(values), 'i32');
  return {
    ids: tokenIds(device, ids, vocabulary),
    rows: upload(starts.map((start) => ids[sorted[start]!]!)),
    starts: upload([...starts, ids.length]),
    sorted: upload(sorted),
  };
}

/** y [N, C] = the rows of the table [V, C]. */
export function embedding(
  { ids }: Pick<EmbeddingTokens, 'ids'>,
  table: Activations,
  y: Activations,
  width: number,
): void {
  invariant(y.length === ids.length * width, `${y.length} activations for ${ids.length} tokens of ${width}`);
  if (ids.length === 0) return;
  const grid = [Math.ceil(ids.length / ROWS_OF_BLOCK)] as const;
  kernelFor('embedding', 'embedding', y).launch(grid, 0, ids, table, y, ids.length, width);
}

/** Adds the gradient of each row to `dTable` [V, C], in order of the tokens. */
export function embeddingBackward(
  tokens: EmbeddingTokens,
  dy: Activations,
  dTable: Floats,
  width: number,
): void {
  const { rows, starts, sorted } = tokens;
  invariant(
    dy.length === sorted.length * width,
    `${dy.length} gradients for ${sorted.length} tokens of ${width}`,
  );
  if (rows.length === 0) return;
  const grid = [rows.length, Math.ceil(width / THREADS)] as const;
  kernelFor('embedding', 'embeddingBackward', dy).launch(grid, 0, rows, starts, sorted, dy, dTable, width);
}

/** Sizes of a product: y [M, N], summed over K. */
export interface ProductShape {
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

type ProductOperands = readonly [Activations, Activations, Activations];

/** By tensor cores, or, where the operands are floats, without. */
function product(
  name: 'matmul' | 'matmulPlain' | 'matmulTransposed',
  [a, b, y]: ProductOperands,
  shape: ProductShape,
  contiguous: readonly (keyof ProductShape)[],
  { tile, accumulate }: { tile: Tile | undefined; accumulate?: boolean },
): void {
  if (a.storage === 'f32') {
    floatProduct(name, [a, b, y] as readonly [Floats, Floats, Floats], shape, accumulate);
    return;
  }
  const { M, N, K } = shape;
  for (const axis of contiguous) {
    invariant(shape[axis] % 8 === 0, `${axis} = ${shape[axis]} of ${name} is no multiple of 8`);
  }
  invariant(
    a.length === M * K && b.length === N * K && y.length === M * N,
    `${a.length}, ${b.length} and ${y.length} values for a product of ${M} × ${N} over ${K}`,
  );
  if (M === 0 || N === 0) return;
  const { device } = a;
  // What is summed over nothing has no operands that the copy engine could be told of.
  const chosen = K === 0 ? 'Small' : (tile ?? tileFor({ count: 1, rows: M, columns: N }, device));
  const { rows, columns, sharedBytes, isHopper } = TILES[chosen];
  const toFloat = name === 'matmul' && y.storage === 'f32' ? 'ToFloat' : '';
  const more = accumulate === undefined ? [] : [Number(accumulate)];
  const grid = [Math.ceil(N / columns), Math.ceil(M / rows)] as const;
  if (!isHopper) {
    device
      .kernel('matmul', `${name}${toFloat}${chosen}`)
      .launch(grid, sharedBytes, a, b, y, M, N, K, ...more);
    return;
  }
  const left = mapOf({ array: a, rows: M, depth: K, isAlong: name !== 'matmulTransposed' }, rows);
  const right = mapOf({ array: b, rows: N, depth: K, isAlong: name === 'matmul' }, columns);
  const blocks = Math.min(grid[0] * grid[1], device.multiprocessors);
  const kernel = device.kernel('matmulHopper', `${name}${toFloat}${chosen}`);
  kernel.launch([blocks], sharedBytes, left, right, y, M, N, K, ...more);
}

/** y [M, N] = a [M, K] · b [N, K]ᵀ: a linear layer. In bf16, K is a multiple of 8. */
export function matmul(
  a: Activations,
  b: Activations,
  y: Activations,
  shape: ProductShape,
  tile?: Tile,
): void {
  product('matmul', [a, b, y], shape, ['K'], { tile });
}

/** y [M, N] = a [M, K] · b [K, N]: the gradient of a linear layer's input. In bf16, K and N are multiples of 8. */
export function matmulPlain(
  a: Activations,
  b: Activations,
  y: Activations,
  shape: ProductShape,
  tile?: Tile,
): void {
  product('matmulPlain', [a, b, y], shape, ['K', 'N'], { tile });
}

/**
 * y [M, N] = a [K, M]ᵀ · b [K, N], or y + that: the gradient of a linear layer's weights, summed over tokens. In bf16, M and N are
 * multiples of 8.
 */
export function matmulTransposed(
  a: Activations,
  b: Activations,
  y: Floats,
  shape: ProductShape,
  { accumulate = false, tile }: { accumulate?: boolean; tile?: Tile } = {},
): void {
  product('matmulTransposed', [a, b, y], shape, ['M', 'N'], { tile, accumulate });
}

/** The largest logit, and the sum of exponentials, of each warp. */
const CROSS_ENTROPY_SHARED_BYTES = 64;

export interface CrossEntropyArguments {
  /** [N, C] */
  readonly x: Activations;
  /** [V, C]; in bf16, C and V are multiples of 8 */
  readonly weight: Activations;
  /** [N]; a negative target is left out */
  readonly targets: Int32Array;
  /** [N] */
  readonly losses: Floats;
  readonly vocabulary: number;
  /** Factor of the gradients. */
  readonly scale: number;
  /** Of the logits, cap · tanh(logit / cap); none when 0. */
  readonly cap?: number;
  /** Of x [N, C] and of the weight [V, C], which is added to; neither is formed without them. */
  readonly gradients?: { readonly dx: Activations; readonly dWeight: Floats };
}

/** The loss of each token with the logits x·weightᵀ, of which a block of tokens is there at a time, and the gradients at once. */
export function linearCrossEntropy(call: CrossEntropyArguments): void {
  const { x, weight, targets, losses, vocabulary, scale, cap = 0, gradients } = call;
  const { device } = x;
  const channels = weight.length / vocabulary;
  const tokens = targets.length;
  const beyond = targets.findIndex((target) => target >= vocabulary);
  invariant(
    beyond < 0,
    `target ${targets[beyond]} of token ${beyond} is beyond the vocabulary of ${vocabulary}`,
  );
  invariant(
    losses.length === tokens && x.length === tokens * channels,
    `${x.length} activations for ${tokens} tokens of ${channels}`,
  );
  const most = Math.min(tokens, TOKENS_TOGETHER);
  const logits = device.allocate(most * vocabulary, 'f32');
  const dLogits = device.allocate(gradients ? most * vocabulary : 0, x.storage);
  const onDevice = device.upload(targets, 'i32');
  for (let begin = 0; begin < tokens; begin += TOKENS_TOGETHER) {
    const end = Math.min(tokens, begin + TOKENS_TOGETHER);
    const count = end - begin;
    const rows = (array: Activations) => array.subarray(begin * channels, end * channels);
    const block = logits.subarray(0, count * vocabulary);
    matmul(rows(x), weight, block, { M: count, N: vocabulary, K: channels });
    const args = [
      block,
      onDevice.subarray(begin, end),
      losses.subarray(begin, end),
      gradients ? dLogits : null,
    ];
    const kernel = kernelFor('crossEntropy', 'crossEntropy', x);
    kernel.launch([count], CROSS_ENTROPY_SHARED_BYTES, ...args, vocabulary, scale, cap);
    if (!gradients) continue;
    const dBlock = dLogits.subarray(0, count * vocabulary);
    matmulPlain(dBlock, weight, rows(gradients.dx), { M: count, N: channels, K: vocabulary });
    const shape = { M: vocabulary, N: channels, K: count };
    matmulTransposed(dBlock, rows(x), gradients.dWeight, shape, { accumulate: true });
  }
  for (const array of [logits, dLogits, onDevice]) device.free(array);
}
