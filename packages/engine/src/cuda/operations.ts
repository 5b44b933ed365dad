/**
 * Operations of models on a device's memory, as launches of their kernels. Activations are bf16 or float, one of them throughout.
 * N: tokens; C: channels.
 */

import { invariant } from '@sluice/core';
import type { DeviceArray } from './device.ts';
import { sumRows } from './flatArithmetic.ts';

type Activations = DeviceArray<'bf16' | 'f32'>;
type Floats = DeviceArray<'f32'>;

/** The kernel for a kind of activations. */
function kernelFor(file: string, name: string, { device, storage }: Activations) {
  return device.kernel(file, `${name}${storage === 'bf16' ? 'Bf16' : 'Float'}`);
}

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
  /** [C] */
  readonly dGain: Floats;
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
  const parts = Math.ceil(rows / ROWS_OF_PART);
  const sums = x.device.allocate(parts * width, 'f32');
  if (rows > 0) {
    // First what reads dy, which dx may overwrite.
    const columns = Math.ceil(width / THREADS);
    kernelFor('rmsNorm', 'rmsNormGain', x).launch([columns, parts], 0, x, dy, inverse, sums, rows, width);
    const grid = [Math.ceil(rows / ROWS_OF_BLOCK)] as const;
    kernelFor('rmsNorm', 'rmsNormBackward', x).launch(grid, 0, x, gain, dy, inverse, dx, rows, width);
  }
  sumRows(dGain, sums, accumulate);
  x.device.free(sums);
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

/** Sizes of a product: y [M, N], summed over K. */
export interface ProductShape {
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Edge of a block's tile, and bytes of its shared memory: stages · two operands · edge · 64 steps of k · 2 bytes. */
const TILES = {
  Small: { edge: 64, sharedBytes: 2 * 2 * 64 * 64 * 2 },
  Large: { edge: 128, sharedBytes: 3 * 2 * 128 * 64 * 2 },
};
export type Tile = keyof typeof TILES;

/** The larger tile where it gives the multiprocessors enough to do. No bit depends on it. */
function tileFor({ M, N }: ProductShape, multiprocessors: number): Tile {
  const blocks = Math.ceil(M / TILES.Large.edge) * Math.ceil(N / TILES.Large.edge);
  return blocks >= 2 * multiprocessors && M > 64 && N > 64 ? 'Large' : 'Small';
}

type Bf16 = DeviceArray<'bf16'>;

function product(
  name: string,
  [a, b, y]: readonly [Bf16, Bf16, DeviceArray<'bf16' | 'f32'>],
  shape: ProductShape,
  contiguous: readonly (keyof ProductShape)[],
  { tile, more = [] }: { tile: Tile | undefined; more?: number[] },
): void {
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
  const chosen = tile ?? tileFor(shape, device.multiprocessors);
  const { edge, sharedBytes } = TILES[chosen];
  const grid = [Math.ceil(N / edge), Math.ceil(M / edge)] as const;
  device.kernel('matmul', `${name}${chosen}`).launch(grid, sharedBytes, a, b, y, M, N, K, ...more);
}

/** y [M, N] = a [M, K] · b [N, K]ᵀ: a linear layer. K is a multiple of 8. */
export function matmul(a: Bf16, b: Bf16, y: Bf16, shape: ProductShape, tile?: Tile): void {
  product('matmul', [a, b, y], shape, ['K'], { tile });
}

/** y [M, N] = a [M, K] · b [K, N]: the gradient of a linear layer's input. K and N are multiples of 8. */
export function matmulPlain(a: Bf16, b: Bf16, y: Bf16, shape: ProductShape, tile?: Tile): void {
  product('matmulPlain', [a, b, y], shape, ['K', 'N'], { tile });
}

/**
 * y [M, N] = a [K, M]ᵀ · b [K, N], or y + that: the gradient of a linear layer's weights, summed over tokens. M and N are multiples
 * of 8.
 */
export function matmulTransposed(
  a: Bf16,
  b: Bf16,
  y: Floats,
  shape: ProductShape,
  { accumulate = false, tile }: { accumulate?: boolean; tile?: Tile } = {},
): void {
  product('matmulTransposed', [a, b, y], shape, ['M', 'N'], { tile, more: [Number(accumulate)] });
}
