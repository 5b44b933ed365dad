/** Experts on a device: tokens to their rows and back, and products of their own for each expert (`kernels/combineTokens.cu`, `expertProducts.cu`). */

import { invariant } from '@sluice/core';
import type { DispatchPlan } from '../ops/dispatchTokens.ts';
import type { ExpertSegment } from '../ops/expertFeedForward.ts';
import type { DeviceArray } from './device.ts';
import { embedding, type ProductShape, TILES, type Tile } from './operations.ts';

type Bf16 = DeviceArray<'bf16'>;

/** Rows of a block, one a warp. */
const ROWS_OF_BLOCK = 8;

function withIndices<T>({ device }: Bf16, indices: Int32Array, use: (indices: DeviceArray<'i32'>) => T): T {
  const onDevice = device.upload(indices, 'i32');
  const result = use(onDevice);
  device.free(onDevice);
  return result;
}

function checkPermutation(indices: Int32Array, rows: number): void {
  const wrong = indices.find((index) => index < 0 || index >= rows);
  invariant(wrong === undefined && indices.length === rows, `index ${wrong} of a plan of ${rows} rows`);
}

/** y [M, C]: for each row of the plan its token's row of x [N, C]. */
export function dispatchTokens(x: Bf16, { order, topK }: DispatchPlan, y: Bf16): void {
  checkPermutation(order, order.length);
  if (order.length === 0) return;
  const tokens = order.map((slot) => Math.floor(slot / topK));
  const width = (x.length / order.length) * topK;
  withIndices(x, tokens, (ids) => embedding({ ids }, x, y, width));
}

/** out [N, C] = Σ_k weight_nk · y[position[n·K + k]]. @param weights [N, K]; 1 for each where there are none */
export function combineTokens(
  y: Bf16,
  weights: Bf16 | null,
  { position, topK }: DispatchPlan,
  out: Bf16,
): void {
  const rows = position.length;
  checkPermutation(position, rows);
  if (rows === 0) return;
  const [tokens, width] = [rows / topK, y.length / rows];
  invariant(out.length === tokens * width, `${out.length} values for ${tokens} tokens of ${width}`);
  const kernel = y.device.kernel('combineTokens', 'combineTokens');
  const grid = [Math.ceil(tokens / ROWS_OF_BLOCK)] as const;
  withIndices(y, position, (places) => kernel.launch(grid, 0, y, weights, places, out, tokens, topK, width));
}

/** The gradients of `combineTokens`. @param gradients dy may be y */
export function combineTokensBackward(
  { y, weights, dOut }: Readonly<Record<'y' | 'weights' | 'dOut', Bf16>>,
  { order, topK }: DispatchPlan,
  { dy, dWeights }: Readonly<Record<'dy' | 'dWeights', Bf16>>,
): void {
  const rows = order.length;
  checkPermutation(order, rows);
  if (rows === 0) return;
  const width = y.length / rows;
  const kernel = y.device.kernel('combineTokens', 'combineTokensBackward');
  const grid = [Math.ceil(rows / ROWS_OF_BLOCK)] as const;
  withIndices(y, order, (slots) =>
    kernel.launch(grid, 0, y, weights, slots, dOut, dy, dWeights, rows, topK, width),
  );
}

/** The larger tile where it gives the multiprocessors enough to do, and segments fill it. No bit depends on it. */
function tileFor(blocks: number, rows: number, columns: number, multiprocessors: number): Tile {
  return blocks >= 2 * multiprocessors && rows > 64 && columns > 64 ? 'Large' : 'Small';
}

const checkWidth = (width: number) =>
  invariant(width % 8 === 0, `rows of ${width} values for tensor cores, which is no multiple of 8`);

/**
 * y [M, N] = x [M, K] · W, for each segment with its expert's matrix, as if it were alone.
 * @param weights [E, N, K], or [E, K, N] where it is `isPlain`, as for gradients; N and K are multiples of 8
 * @param tile the kernel chooses if it is left out
 */
export function expertProducts(
  [x, weights, y]: readonly [Bf16, Bf16, Bf16],
  segments: readonly ExpertSegment[],
  { N, K }: Pick<ProductShape, 'N' | 'K'>,
  { isPlain = false, tile }: { isPlain?: boolean; tile?: Tile } = {},
): void {
  checkWidth(N);
  checkWidth(K);
  const rows = segments.reduce((sum, { count }) => sum + count, 0);
  invariant(
    x.length === rows * K && y.length === rows * N && weights.length % (N * K) === 0,
    `${x.length}, ${weights.length} and ${y.length} values for ${rows} rows of experts`,
  );
  if (rows === 0) return;
  const { multiprocessors } = x.device;
  const filled = segments.filter(({ count }) => count > 0);
  const large = Math.ceil(rows / TILES.Large.edge) * Math.ceil(N / TILES.Large.edge);
  const chosen = tile ?? tileFor(large, rows / filled.length, N, multiprocessors);
  const { edge, sharedBytes } = TILES[chosen];
  const tiles = filled.flatMap(({ expert, begin, count }) =>
    Array.from({ length: Math.ceil(count / edge) }, (_, i) => [begin + i * edge, begin + count, expert]),
  );
  const kernel = x.device.kernel('expertProducts', `expertMatmul${isPlain ? 'Plain' : ''}${chosen}`);
  withIndices(x, Int32Array.from(tiles.flat()), (onDevice) =>
    kernel.launch([Math.ceil(N / edge), tiles.length], sharedBytes, x, weights, y, onDevice, N, K),
  );
}

/**
 * y [E, M, N] = aᵀ · b of each segment's rows of a [rows, M] and b [rows, N], or y + that: the gradient of the experts' weights, from one
 * source. Experts without rows get zeros. M and N are multiples of 8.
 */
export function expertGradients(
  [a, b]: readonly [Bf16, Bf16],
  y: DeviceArray<'f32'>,
  segments: readonly ExpertSegment[],
  { M, N }: Pick<ProductShape, 'M' | 'N'>,
  { accumulate, tile }: { accumulate: boolean; tile?: Tile },
): void {
  checkWidth(M);
  checkWidth(N);
  const experts = y.length / (M * N);
  invariant(Number.isInteger(experts), `${y.length} values for matrices of ${M} × ${N}`);
  const counts = new Map(segments.map((segment) => [segment.expert, segment]));
  const all = Array.from({ length: experts }, (_, expert) => {
    const { begin, count } = counts.get(expert) ?? { begin: 0, count: 0 };
    return [begin, count, expert];
  });
  // A product over no rows writes zeros; there is nothing to add.
  const needed = accumulate ? all.filter(([, count]) => count! > 0) : all;
  if (needed.length === 0) return;
  const blocks = needed.length * Math.ceil(M / TILES.Large.edge) * Math.ceil(N / TILES.Large.edge);
  const chosen = tile ?? tileFor(blocks, M, N, y.device.multiprocessors);
  const { edge, sharedBytes } = TILES[chosen];
  const grid = [Math.ceil(N / edge), Math.ceil(M / edge), needed.length] as const;
  const kernel = y.device.kernel('expertProducts', `expertMatmulTransposed${chosen}`);
  withIndices(a, Int32Array.from(needed.flat()), (onDevice) =>
    kernel.launch(grid, sharedBytes, a, b, y, onDevice, M, N, Number(accumulate)),
  );
}
