/** Products of matrices in a device's memory, as launches of their kernels. */

import { invariant } from '@sluice/core';
import type { Activations, DeviceArray } from './device.ts';
import { floatProduct } from './floatProducts.ts';
import { mapOf, type ProductShape, TILES, type Tile, tileFor } from './productTiles.ts';

type Floats = DeviceArray<'f32'>;
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
