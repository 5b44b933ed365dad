/**
 * Matrix products in single precision. Every element's sum has a fixed order that depends on the depth alone: neither on the
 * number of threads nor on the other rows or columns.
 */

import { makeFloats } from './memory.ts';
import { callNative, nativeCore } from './native.ts';
import { type Clock, wallClock } from './profile.ts';

export interface ProductSizes {
  readonly rows: number;
  readonly columns: number;
  /** Length of the summed axis. */
  readonly depth: number;
  /** Whether `a` lies in memory as [depth, rows]. */
  readonly transposeA?: boolean;
  /** Whether `b` lies in memory as [columns, depth]. */
  readonly transposeB?: boolean;
  /** What `c` is multiplied by before the product is added; 0 (the default) overwrites it, whatever it holds. */
  readonly beta?: number;
  /** Elements from row to row in memory, where rows are not next to each other. */
  readonly aStride?: number;
  readonly bStride?: number;
  readonly cStride?: number;
}

/** C = beta·C + op(A)·op(B), all row-major. */
export function matrixProduct(a: Float32Array, b: Float32Array, c: Float32Array, sizes: ProductSizes): void {
  const { rows, columns, depth, transposeA = false, transposeB = false, beta = 0 } = sizes;
  const aStride = sizes.aStride ?? (transposeA ? rows : depth);
  const bStride = sizes.bStride ?? (transposeB ? depth : columns);
  const cStride = sizes.cStride ?? columns;
  if (!nativeCore()) {
    plainProduct(a, b, c, { ...sizes, beta, aStride, bStride, cStride });
    return;
  }
  const flags = [transposeA, transposeB, beta, aStride, bStride, cStride];
  callNative('matrixProduct', a, b, c, rows, columns, depth, ...flags);
}

/** Without the C++ core; sums in double precision. */
function plainProduct(
  a: Float32Array,
  b: Float32Array,
  c: Float32Array,
  sizes: ProductSizes & Required<Pick<ProductSizes, 'beta' | 'aStride' | 'bStride' | 'cStride'>>,
): void {
  const { rows, columns, depth, beta, aStride, bStride, cStride } = sizes;
  const [aStep, aRow] = sizes.transposeA ? [aStride, 1] : [1, aStride];
  const [bStep, bColumn] = sizes.transposeB ? [1, bStride] : [bStride, 1];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let k = 0; k < depth; k++) sum += a[row * aRow + k * aStep]! * b[column * bColumn + k * bStep]!;
      const at = row * cStride + column;
      c[at] = beta === 0 ? sum : beta * c[at]! + sum;
    }
  }
}

/**
 * The speed of a single-precision product of 2048³ with the current number of threads: what `utilization` is measured by.
 * @returns the best of `repetitions`, in GFLOP/s; NaN without the C++ core
 */
export function measureSgemmPeak(repetitions = 5, clock: Clock = wallClock): number {
  if (!nativeCore()) return Number.NaN;
  const size = 2048;
  const [a, b] = [makeFloats(size * size).fill(0.5), makeFloats(size * size).fill(0.25)];
  const c = makeFloats(size * size);
  let best = Number.POSITIVE_INFINITY;
  // The first one also pays for memory that is touched for the first time.
  for (let repetition = 0; repetition <= repetitions; repetition++) {
    const start = clock();
    matrixProduct(a, b, c, { rows: size, columns: size, depth: size });
    best = Math.min(best, clock() - start);
  }
  return (2 * size ** 3) / best / 1e6;
}
