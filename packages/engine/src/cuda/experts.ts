/** Experts on a device: tokens to their rows and back (`kernels/combineTokens.cu`), and a product for each segment of rows. */

import { invariant } from '@sluice/core';
import type { DispatchPlan } from '../ops/dispatchTokens.ts';
import type { ExpertSegment } from '../ops/expertFeedForward.ts';
import type { DeviceArray } from './device.ts';
import { embedding, matmul, matmulPlain, type ProductShape } from './operations.ts';

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

/** Rows of a segment, and the matrix of its expert. */
function operandsOf(
  { expert, begin, count }: ExpertSegment,
  rows: Bf16,
  width: number,
  weights: Bf16,
  size: number,
): [Bf16, Bf16] {
  return [
    rows.subarray(begin * width, (begin + count) * width),
    weights.subarray(expert * size, (expert + 1) * size),
  ];
}

/**
 * y [M, N] = x [M, K] · W, for each segment with its expert's matrix: a product of its own, so that no bit depends on the others.
 * @param weights [E, N, K], or [E, K, N] where it is `isPlain`, as for gradients
 */
export function segmentProducts(
  [x, weights, y]: readonly [Bf16, Bf16, Bf16],
  segments: readonly ExpertSegment[],
  { N, K }: Pick<ProductShape, 'N' | 'K'>,
  isPlain: boolean,
): void {
  for (const segment of segments) {
    const { begin, count } = segment;
    if (count === 0) continue;
    const [rows, matrix] = operandsOf(segment, x, K, weights, N * K);
    const results = y.subarray(begin * N, (begin + count) * N);
    (isPlain ? matmulPlain : matmul)(rows, matrix, results, { M: count, N, K });
  }
}
