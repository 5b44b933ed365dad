/** TensorFlow.js's own matrix products, on our kernel where it serves them, otherwise on the stock one. */

import * as tf from '@tensorflow/tfjs';
import type { NativeBackend } from '../backend.ts';
import { callNative } from '../native.ts';
import { type KernelCall, overrideKernel } from '../override.ts';

interface MatMulAttributes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

/** Whether our products serve these operands: single precision, and batches that are equal or missing on one side. */
function isServed(a: tf.TensorInfo, b: tf.TensorInfo): boolean {
  const [batchA, batchB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const isOne = (batch: number[]) => tf.util.sizeFromShape(batch) === 1;
  return (
    a.dtype === 'float32' &&
    b.dtype === 'float32' &&
    (tf.util.arraysEqual(batchA, batchB) ||
      (isOne(batchA) && batchA.length <= batchB.length) ||
      (isOne(batchB) && batchB.length <= batchA.length))
  );
}

function batchMatMul(
  native: NativeBackend,
  a: tf.TensorInfo,
  b: tf.TensorInfo,
  { transposeA, transposeB }: MatMulAttributes,
): tf.TensorInfo {
  const [batchA, batchB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const [sizeA, sizeB] = [tf.util.sizeFromShape(batchA), tf.util.sizeFromShape(batchB)];
  const batch = sizeA === 1 && batchA.length <= batchB.length ? batchB : batchA;
  const count = Math.max(sizeA, sizeB);
  const [rowsA, columnsA] = a.shape.slice(-2) as [number, number];
  const [rowsB, columnsB] = b.shape.slice(-2) as [number, number];
  const [rows, depth] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const [depthB, columns] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB];
  tf.util.assert(
    depth === depthB,
    () => `Error in matMul: inner shapes (${depth}) and (${depthB}) of Tensors must match.`,
  );
  const c = native.allocate([...batch, rows, columns]);
  const operands = [native.valuesOf(a), native.valuesOf(b), c.values];
  const flags = [transposeA, transposeB, sizeA < count, sizeB < count];
  callNative('matrixProducts', ...operands, count, rows, columns, depth, ...flags);
  return c.info;
}

function serve(kernelName: string, isPlain: (call: KernelCall) => boolean): void {
  overrideKernel(kernelName, (call) => {
    const { a, b } = call.inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
    if (!isServed(a, b) || !isPlain(call)) return undefined;
    return batchMatMul(call.backend, a, b, call.attrs as unknown as MatMulAttributes);
  });
}

serve('BatchMatMul', () => true);
serve('_FusedMatMul', ({ inputs, attrs }) => {
  const { activation } = attrs as unknown as { activation?: string };
  return !inputs.bias && (!activation || activation === 'linear');
});
