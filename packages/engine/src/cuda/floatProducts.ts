/** Products in single precision, without tensor cores (`kernels/floatProducts.cu`): what activations of that precision take, of any widths. */

import { invariant } from '@sluice/core';
import type { DeviceArray } from './device.ts';
import type { ProductShape } from './productTiles.ts';

type Floats = DeviceArray<'f32'>;
type Operands = readonly [Floats, Floats, Floats];

/** Of the kernels: rows and columns of a block, and bytes of its panels, two of each operand: 16 steps of 64 values and four more. */
export const FLOAT_EDGE = 64;
const SHARED_BYTES = 2 * 2 * 16 * (FLOAT_EDGE + 4) * 4;

export type FloatProductName = 'matmul' | 'matmulPlain' | 'matmulTransposed';

/** y [M, N], by the layouts of `products.ts`. @param accumulate adds to y; for `matmulTransposed` */
export function floatProduct(
  name: FloatProductName,
  [a, b, y]: Operands,
  { M, N, K }: ProductShape,
  accumulate = false,
): void {
  invariant(
    a.length === M * K && b.length === N * K && y.length === M * N,
    `${a.length}, ${b.length} and ${y.length} values for a product of ${M} × ${N} over ${K}`,
  );
  if (M === 0 || N === 0) return;
  const grid = [Math.ceil(N / FLOAT_EDGE), Math.ceil(M / FLOAT_EDGE)] as const;
  const more = name === 'matmulTransposed' ? [Number(accumulate)] : [];
  a.device.kernel('floatProducts', `${name}Float`).launch(grid, SHARED_BYTES, a, b, y, M, N, K, ...more);
}

/** The rows of `tiles`, each with its expert's matrix, as `expertProducts` has them. @param tiles of `FLOAT_EDGE` rows */
export function floatExpertProducts(
  name: 'expertMatmul' | 'expertMatmulPlain',
  [x, weights, y]: Operands,
  tiles: DeviceArray<'i32'>,
  { N, K }: Pick<ProductShape, 'N' | 'K'>,
): void {
  const grid = [Math.ceil(N / FLOAT_EDGE), tiles.length / 3] as const;
  const kernel = x.device.kernel('floatProducts', `${name}Float`);
  kernel.launch(grid, SHARED_BYTES, x, weights, y, tiles, N, K);
}

/** The gradients of experts' matrices, as `expertGradients` has them. */
export function floatExpertGradients(
  [a, b, y]: Operands,
  segments: DeviceArray<'i32'>,
  { M, N }: Pick<ProductShape, 'M' | 'N'>,
  accumulate: boolean,
): void {
  const grid = [Math.ceil(N / FLOAT_EDGE), Math.ceil(M / FLOAT_EDGE), segments.length / 3] as const;
  const kernel = y.device.kernel('floatProducts', 'expertMatmulTransposedFloat');
  kernel.launch(grid, SHARED_BYTES, a, b, y, segments, M, N, Number(accumulate));
}
