/** Products, on tensor cores and in single precision, and those of experts. M: rows; N: columns; K: what is summed over. */

import { planOnHost } from '../../ops/dispatchTokens.ts';
import type { ExpertSegment } from '../../ops/expertFeedForward.ts';
import type { Activations, DeviceArray } from '../device.ts';
import { CountedRows } from '../expertRows.ts';
import { expertGradients, expertProducts } from '../experts.ts';
import { matmul, matmulPlain, matmulTransposed } from '../products.ts';
import type { ProductShape, Tile } from '../productTiles.ts';
import {
  type ActivationStorage,
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
  roundingOf,
} from './case.ts';

/** For each layout the strides of the left operand along (row, k), and of the right one along (column, k). */
export const PRODUCTS = {
  matmul: { left: ({ K }: ProductShape) => [K, 1], right: ({ K }: ProductShape) => [K, 1] },
  matmulPlain: { left: ({ K }: ProductShape) => [K, 1], right: ({ N }: ProductShape) => [1, N] },
  matmulTransposed: { left: ({ M }: ProductShape) => [1, M], right: ({ N }: ProductShape) => [1, N] },
};
export type ProductName = keyof typeof PRODUCTS;

export interface ProductOptions {
  readonly seed?: number;
  readonly tile?: Tile | undefined;
  readonly operands?: ActivationStorage;
  /** Of the result: the gradient of weights, and logits, are in single precision. */
  readonly storage?: ActivationStorage;
}

/** What a product of a layout is, in double precision, and the sums of its terms' sizes. */
function exactProduct(name: ProductName, [a, b]: readonly [Float32Array, Float32Array], shape: ProductShape) {
  const { M, N, K } = shape;
  const [row, k] = PRODUCTS[name].left(shape) as [number, number];
  const [column, l] = PRODUCTS[name].right(shape) as [number, number];
  const [values, sizes] = [new Float64Array(M * N), new Float64Array(M * N)];
  for (let i = 0; i < M * N; i++) {
    const [m, n] = [Math.floor(i / N), i % N];
    for (let step = 0; step < K; step++) {
      const term = a[m * row + step * k]! * b[n * column + step * l]!;
      values[i]! += term;
      sizes[i]! += Math.abs(term);
    }
  }
  return { values, sizes };
}

/**
 * On tensor cores, each of K/16 steps cuts up to 17 terms to 24 bits below the largest; without, each of K steps, and the sum of each 512,
 * is rounded. The result is rounded to its storage.
 */
function productBound(
  K: number,
  [operands, storage]: readonly [ActivationStorage, ActivationStorage],
  values: Float64Array,
  sizes: Float64Array,
) {
  const steps = operands === 'bf16' ? 17 * Math.ceil(K / 16) : Math.min(K, 512) + Math.ceil(K / 512);
  const cut = steps * 2 ** -24;
  const rounding = roundingOf(storage);
  return (i: number) =>
    cut * (sizes[i]! + 1e-30) + rounding * 1.01 * (Math.abs(values[i]!) + sizes[i]! * cut) + 1e-30;
}

/** A product of random operands; that of `matmulTransposed` is added to random numbers. */
export function productCase(
  on: DeviceMemory,
  name: ProductName,
  shape: ProductShape,
  {
    seed = 1,
    tile,
    operands = 'bf16',
    storage = name === 'matmulTransposed' ? 'f32' : operands,
  }: ProductOptions = {},
): KernelCase {
  const { M, N, K } = shape;
  const [a, b] = [randomArray(on, seed, M * K, operands), randomArray(on, seed + 1, N * K, operands)];
  const y = randomArray(on, seed + 2, M * N, storage);
  const run = () => {
    if (name === 'matmul') matmul(a, b, y, shape, tile);
    else if (name === 'matmulPlain') matmulPlain(a, b, y, shape, tile);
    else matmulTransposed(a, b, y as DeviceArray<'f32'>, shape, { accumulate: true, ...(tile && { tile }) });
  };
  return {
    run,
    outputs: () => outputsOf({ y }),
    flops: 2 * M * N * K,
    judge: () => {
      const { values, sizes } = exactProduct(name, [floatsOf(a), floatsOf(b)], shape);
      if (name === 'matmulTransposed') for (const [i, before] of floatsOf(y).entries()) values[i]! += before;
      const bound = productBound(K, [operands, storage], values, sizes);
      return judged({ y: { array: y, expected: values, bound } });
    },
  };
}

export interface ExpertSizes {
  readonly tokens: number;
  readonly experts: number;
  readonly topK: number;
  readonly N: number;
  readonly K: number;
  readonly storage?: ActivationStorage;
}

/** The experts of each token's slots: different ones, all with about as many rows. */
export function slotsOf({
  tokens,
  experts,
  topK,
}: Pick<ExpertSizes, 'tokens' | 'experts' | 'topK'>): Int32Array {
  return Int32Array.from({ length: tokens * topK }, (_, slot) => {
    const [token, k] = [Math.floor(slot / topK), slot % topK];
    return (token * 5 + (token >> 5) + k) % experts;
  });
}

function segmentsOf(counts: Int32Array): ExpertSegment[] {
  let begin = 0;
  return Array.from(counts, (count, expert) => {
    const segment = { expert, source: 0, begin, count };
    begin += count;
    return segment;
  });
}

/** Rows of a segment. */
const rowsOf = (values: Float32Array, { begin, count }: ExpertSegment, width: number) =>
  values.subarray(begin * width, (begin + count) * width);

export type ExpertProduct = 'forward' | 'back' | 'gradient';

/** x·Wᵀ for each expert's rows, dy·W, or dyᵀ·x. Of the gradient, N are the rows of a matrix, and K its columns. */
export function expertCase(
  on: DeviceMemory,
  kind: ExpertProduct,
  sizes: ExpertSizes,
  tile?: Tile,
): KernelCase {
  const { tokens, experts, topK, N, K, storage = 'bf16' } = sizes;
  const rows = tokens * topK;
  const [, , counts] = planOnHost(slotsOf(sizes), experts);
  const segments = segmentsOf(counts);
  const ofExperts = new CountedRows(on.upload(counts, 'i32'), rows);
  const matrix = N * K;
  const a = randomArray(on, 1, rows * (kind === 'gradient' ? N : K), storage);
  const b = randomArray(on, 2, kind === 'gradient' ? rows * K : experts * matrix, storage);
  const y = kind === 'gradient' ? on.allocate(experts * matrix, 'f32') : on.allocate(rows * N, storage);
  const chosen = tile && { tile };
  return {
    run() {
      if (kind !== 'gradient') {
        expertProducts(
          [a, b, y as Activations],
          ofExperts,
          { N, K },
          { isPlain: kind === 'back', ...chosen },
        );
        return;
      }
      const filled = ofExperts.segmentsOf(0, experts);
      const options = { accumulate: false, ...chosen };
      expertGradients([a, b], y as DeviceArray<'f32'>, filled, { M: N, N: K }, options);
      filled.device.free(filled);
    },
    outputs: () => outputsOf({ y }),
    flops: 2 * rows * N * K,
    judge: () => {
      const [left, right] = [floatsOf(a), floatsOf(b)];
      const [values, bounds] = [new Float64Array(y.length), new Float64Array(y.length)];
      for (const segment of segments) {
        const { expert, begin, count } = segment;
        const ofExpert = right.subarray(expert * matrix, (expert + 1) * matrix);
        const [name, operands, shape, at] =
          kind === 'gradient'
            ? ([
                'matmulTransposed',
                [rowsOf(left, segment, N), rowsOf(right, segment, K)],
                { M: N, N: K, K: count },
                expert * matrix,
              ] as const)
            : ([
                kind === 'back' ? 'matmulPlain' : 'matmul',
                [rowsOf(left, segment, K), ofExpert],
                { M: count, N, K },
                begin * N,
              ] as const);
        const exact = exactProduct(name, operands, shape);
        values.set(exact.values, at);
        const bound = productBound(shape.K, [storage, y.storage], exact.values, exact.sizes);
        bounds.set(
          Float64Array.from(exact.values, (_, i) => bound(i)),
          at,
        );
      }
      return judged({ y: { array: y, expected: values, bound: (i) => bounds[i]! } });
    },
  };
}
