/** TensorFlow.js's matrix products, in single precision (`cuda/kernels/batchMatMul.cu`). */

import * as tf from '@tensorflow/tfjs';
import { broadcastSteps, stepsOf } from '../../steps.ts';
import type { TensorArray } from '../backend.ts';
import { integersOf, MOST_BLOCKS } from '../limits.ts';
import { layoutOf, STORAGE, type StockCall, type StockKernels, sizeFromShape } from './kernel.ts';

/** Of a tile, and its shared memory: two tiles with rows of one more. */
const EDGE = 16;
const SHARED_BYTES = 2 * EDGE * (EDGE + 1) * 4;

/** Steps between the matrices of a batch, in elements. */
function matrixSteps(batch: readonly number[], target: readonly number[], elements: number): number[] {
  return broadcastSteps(batch, target).map((step) => step * elements);
}

/** Sizes of a product, and the steps along the axes of its matrices: rows and k, k and columns. */
export interface ProductSteps {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly a: readonly [number, number];
  readonly b: readonly [number, number];
}

/**
 * y [batch, M, N] = a · b, of floats in any storage, added up in single precision.
 * @param batches how many products there are, and where their matrices begin
 */
export function floatProducts(
  [a, b, y]: readonly [TensorArray, TensorArray, TensorArray],
  { M, N, K, a: aSteps, b: bSteps }: ProductSteps,
  batches = { count: 1, layout: layoutOf([], [], [])! },
): void {
  if (y.length === 0) return;
  const storages = [a, b, y].map(({ storage }) => STORAGE[storage]);
  const product = integersOf([M, N, K, ...aSteps, ...bSteps, ...storages]);
  const grid = [Math.ceil(M / EDGE), Math.ceil(N / EDGE), Math.min(batches.count, MOST_BLOCKS[2])] as const;
  const kernel = y.device.kernel('batchMatMul', 'batchMatMul');
  kernel.launch(grid, SHARED_BYTES, a, b, y, product, batches.count, batches.layout);
}

function batchMatMul({ inputs, attrs, backend }: StockCall): tf.TensorInfo | undefined {
  const { a, b } = inputs as Record<'a' | 'b', tf.TensorInfo>;
  const { transposeA, transposeB } = attrs as unknown as { transposeA: boolean; transposeB: boolean };
  if (a.dtype !== 'float32' || b.dtype !== 'float32') return undefined;
  const [batchA, batchB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const batch = tf.backend_util.assertAndGetBroadcastShape(batchA, batchB);
  const [sizeA, sizeB] = [a.shape.slice(-2), b.shape.slice(-2)] as [[number, number], [number, number]];
  const [aSteps, bSteps] = [
    transposeA ? stepsOf(sizeA).reverse() : stepsOf(sizeA),
    transposeB ? stepsOf(sizeB).reverse() : stepsOf(sizeB),
  ] as [[number, number], [number, number]];
  const [M, K] = transposeA ? [sizeA[1], sizeA[0]] : sizeA;
  const [depthB, N] = transposeB ? [sizeB[1], sizeB[0]] : sizeB;
  tf.util.assert(
    K === depthB,
    () =>
      `Error in matMul: inner shapes (${K}) and (${depthB}) of Tensors with shapes ${a.shape} and ${b.shape} and ` +
      `transposeA=${transposeA} and transposeB=${transposeB} must match.`,
  );
  const layout = layoutOf(
    batch,
    matrixSteps(batchA, batch, sizeFromShape(sizeA)),
    matrixSteps(batchB, batch, sizeFromShape(sizeB)),
  );
  if (!layout) return undefined;
  const [left, right] = [backend.valuesOf(a), backend.valuesOf(b)];
  const y = backend.allocateResult([...batch, M, N], 'float32', a, b);
  const steps = { M, N, K, a: aSteps, b: bSteps };
  floatProducts([left, right, y.values], steps, { count: sizeFromShape(batch), layout });
  return y.info;
}

export const matMul: StockKernels = { BatchMatMul: batchMatMul };
