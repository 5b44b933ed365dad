/** Experts on a device: tokens to their rows and back, and products of their own for each expert (`kernels/combineTokens.cu`, `expertProducts.cu`). */

import { invariant } from '@sluice/core';
import { type Activations, type DeviceArray, kernelFor } from './device.ts';
import type { ExpertRows } from './expertRows.ts';
import { FLOAT_EDGE, floatExpertGradients, floatExpertProducts } from './floatProducts.ts';
import type { ProductShape } from './productTiles.ts';
import { mapOf, TILES, type Tile, tileFor } from './productTiles.ts';

type Floats = DeviceArray<'f32'>;
type Integers = DeviceArray<'i32'>;

/** Rows of a block, one a warp. */
const ROWS_OF_BLOCK = 8;

const gridOf = (rows: number) => [Math.ceil(rows / ROWS_OF_BLOCK)] as const;

/** y [M, C]: for each row its token's row of x [N, C]. @param order [M], the slot of each row */
export function dispatchTokens(x: Activations, order: Integers, y: Activations, topK: number): void {
  const rows = order.length;
  if (rows === 0) return;
  const width = y.length / rows;
  invariant(x.length * topK === y.length, `${y.length} values for ${rows} rows of ${x.length}`);
  const kernel = kernelFor('combineTokens', 'dispatchTokens', x);
  kernel.launch(gridOf(rows), 0, x, order, y, rows, topK, width);
}

/**
 * out [N, C] = Σ_k weight_nk · y[position[n·K + k]].
 * @param weights [N, K]; 1 for each where there are none
 * @param position [M], the row of each slot
 */
export function combineTokens(
  y: Activations,
  weights: Floats | null,
  position: Integers,
  out: Activations,
  topK: number,
): void {
  const rows = position.length;
  if (rows === 0) return;
  const [tokens, width] = [rows / topK, y.length / rows];
  invariant(out.length === tokens * width, `${out.length} values for ${tokens} tokens of ${width}`);
  const kernel = kernelFor('combineTokens', 'combineTokens', y);
  kernel.launch(gridOf(tokens), 0, y, weights, position, out, tokens, topK, width);
}

/** The gradients of `combineTokens`. @param gradients dy may be y */
export function combineTokensBackward(
  {
    y,
    weights,
    order,
    dOut,
  }: Readonly<{ y: Activations; weights: Floats; order: Integers; dOut: Activations }>,
  { dy, dWeights }: Readonly<{ dy: Activations; dWeights: Floats }>,
  topK: number,
): void {
  const rows = order.length;
  if (rows === 0) return;
  const kernel = kernelFor('combineTokens', 'combineTokensBackward', y);
  kernel.launch(gridOf(rows), 0, y, weights, order, dOut, dy, dWeights, rows, topK, y.length / rows);
}

const checkWidth = (width: number) =>
  invariant(width % 8 === 0, `rows of ${width} values for tensor cores, which is no multiple of 8`);

/**
 * y [M, N] = x [M, K] · W, for each segment with its expert's matrix, as if it were alone.
 * @param weights [E, N, K], or [E, K, N] where it is `isPlain`, as for gradients; in bf16, N and K are multiples of 8
 * @param tile the kernel chooses if it is left out
 */
export function expertProducts(
  [x, weights, y]: readonly [Activations, Activations, Activations],
  experts: ExpertRows,
  { N, K }: Pick<ProductShape, 'N' | 'K'>,
  { isPlain = false, tile }: { isPlain?: boolean; tile?: Tile } = {},
): void {
  const { rows, segments } = experts;
  invariant(
    x.length === rows * K && y.length === rows * N && weights.length % (N * K) === 0,
    `${x.length}, ${weights.length} and ${y.length} values for ${rows} rows of experts`,
  );
  if (rows === 0) return;
  const { device } = x;
  const name = isPlain ? 'expertMatmulPlain' : 'expertMatmul';
  if (x.storage === 'f32') {
    const tiles = experts.tiles(FLOAT_EDGE);
    floatExpertProducts(name, [x, weights, y] as readonly [Floats, Floats, Floats], tiles, { N, K });
    device.free(tiles);
    return;
  }
  checkWidth(N);
  checkWidth(K);
  const chosen = tile ?? tileFor({ count: segments, rows: rows / segments, columns: N }, device);
  const { rows: tileRows, columns, sharedBytes, isHopper } = TILES[chosen];
  const tiles = experts.tiles(tileRows);
  const [across, down] = [Math.ceil(N / columns), tiles.length / 3];
  if (isHopper) {
    const matrices = weights.length / (N * K);
    const left = mapOf({ array: x, rows, depth: K, isAlong: true }, tileRows);
    const right = mapOf({ array: weights, rows: N, depth: K, isAlong: !isPlain, matrices }, columns);
    const blocks = Math.min(across * down, device.multiprocessors);
    const kernel = device.kernel('expertProductsHopper', `${name}${chosen}`);
    kernel.launch([blocks], sharedBytes, left, right, y, tiles, down, N, K);
  } else {
    const kernel = device.kernel('expertProducts', `${name}${chosen}`);
    kernel.launch([across, down], sharedBytes, x, weights, y, tiles, N, K);
  }
  device.free(tiles);
}

/**
 * y [E, M, N] = aᵀ · b of each segment's rows of a [rows, M] and b [rows, N], or y + that: the gradient of the experts' weights, from one
 * source. Experts whose segment has no rows get zeros; where it is added, there may be no segment. In bf16, M and N are
 * multiples of 8.
 * @param segments as `ExpertRows` gives them
 */
export function expertGradients(
  [a, b]: readonly [Activations, Activations],
  y: Floats,
  segments: Integers,
  { M, N }: Pick<ProductShape, 'M' | 'N'>,
  { accumulate, tile }: { accumulate: boolean; tile?: Tile },
): void {
  invariant(y.length % (M * N) === 0, `${y.length} values for matrices of ${M} × ${N}`);
  const count = segments.length / 3;
  if (count === 0) return;
  if (a.storage === 'f32') {
    floatExpertGradients([a, b, y] as readonly [Floats, Floats, Floats], segments, { M, N }, accumulate);
    return;
  }
  checkWidth(M);
  checkWidth(N);
  const { device } = y;
  const depth = a.length / M;
  const chosen = depth === 0 ? 'Small' : (tile ?? tileFor({ count, rows: M, columns: N }, device));
  const { rows, columns, sharedBytes, isHopper } = TILES[chosen];
  const grid = [Math.ceil(N / columns), Math.ceil(M / rows), count] as const;
  const name = `expertMatmulTransposed${chosen}`;
  if (!isHopper) {
    const kernel = device.kernel('expertProducts', name);
    kernel.launch(grid, sharedBytes, a, b, y, segments, M, N, Number(accumulate));
    return;
  }
  const left = mapOf({ array: a, rows: M, depth, isAlong: false }, rows);
  const right = mapOf({ array: b, rows: N, depth, isAlong: false }, columns);
  const blocks = Math.min(grid[0] * grid[1] * count, device.multiprocessors);
  const kernel = device.kernel('expertProductsHopper', name);
  kernel.launch([blocks], sharedBytes, left, right, y, segments, count, M, N, Number(accumulate));
}
