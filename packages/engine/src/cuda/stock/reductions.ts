/** Sums and other reductions along axes, softmax, and the largest of rows. */

import { invariant } from '@sluice/core';
import type * as tf from '@tensorflow/tfjs';
import { stepsOf } from '../../steps.ts';
import type { CudaBackend, TensorArray } from '../backend.ts';
import type { Argument, DeviceArray } from '../device.ts';
import { integersOf } from '../limits.ts';
import {
  gridOf,
  layoutOf,
  parseAxisParam,
  STORAGE,
  type StockCall,
  type StockKernel,
  type StockKernels,
  sizeFromShape,
} from './kernel.ts';

/** Elements that are joined by one warp, or by one thread, before its result is joined with others'. */
const PART = { warp: 4096, thread: 256 };
const LANES = 32;

interface Reduction {
  readonly kernel: string;
  readonly shape: readonly number[];
  readonly axes: readonly number[];
}

/** What goes, what stays, and how many threads share an output: a warp where the last axis goes, which lies contiguously. */
function planOf({ shape, axes }: Pick<Reduction, 'shape' | 'axes'>) {
  const steps = stepsOf(shape);
  const of = (isReduced: boolean) => {
    const those = [...shape.keys()].filter((axis) => axes.includes(axis) === isReduced);
    const sizes = those.map((axis) => shape[axis]!);
    const layout = layoutOf(
      sizes,
      those.map((axis) => steps[axis]!),
    );
    return { sizes, size: sizeFromShape(sizes), layout };
  };
  const last = shape.findLastIndex((size) => size > 1);
  return { kept: of(false), reduced: of(true), lanes: last < 0 || axes.includes(last) ? LANES : 1 };
}

/** `Reduction` of `reduceAxis.cu`. */
function structOf(integers: readonly number[], divisor: number): Int32Array {
  const struct = integersOf([...integers, 0]);
  new Float32Array(struct.buffer)[integers.length] = divisor;
  return struct;
}

/** Reduces `x` of a shape into `y`, in parts that are reduced in their turn where there are several. */
function reduceInto(y: TensorArray, x: TensorArray, { kernel, shape, axes }: Reduction, divisor = 1): void {
  const { kept, reduced, lanes } = planOf({ shape, axes });
  invariant(kept.layout && reduced.layout, `a reduction of rank ${shape.length}`);
  const partLength = lanes === 1 ? PART.thread : PART.warp;
  const parts = Math.max(Math.ceil(reduced.size / partLength), 1);
  const isLast = parts === 1;
  const { device } = x;
  const isInt = kernel.endsWith('Int');
  const to = isLast ? y : device.allocate(parts * kept.size, isInt ? 'i32' : 'f32');
  const integers = [
    STORAGE[x.storage],
    STORAGE[to.storage],
    kept.size,
    reduced.size,
    partLength,
    parts,
    lanes,
  ];
  const struct = structOf(integers, isLast ? divisor : 1);
  device
    .kernel('reduceAxis', kernel)
    .launch(gridOf(kept.size * parts * lanes), 0, x, to as DeviceArray, struct, kept.layout, reduced.layout);
  if (isLast) return;
  reduceInto(y, to, { kernel, shape: [parts, kept.size], axes: [0] }, divisor);
  device.free(to);
}

/** What stays of a shape, and its result's, with axes of one element where `keepDims`. */
function shapesOf(shape: readonly number[], axes: readonly number[], keepDims: boolean): number[] {
  return keepDims
    ? shape.map((size, i) => (axes.includes(i) ? 1 : size))
    : shape.filter((_, i) => !axes.includes(i));
}

/** @param dtype of the result, from the operand's; undefined where it is not served */
function reduction(operation: string, dtype: (of: tf.DataType) => tf.DataType | undefined): StockKernel {
  return ({ inputs, attrs, backend }) => {
    const x = inputs.x!;
    const { axis, reductionIndices, keepDims } = attrs as unknown as {
      axis?: number | number[];
      reductionIndices?: number | number[];
      keepDims?: boolean;
    };
    const result = dtype(x.dtype);
    if (result === undefined || x.shape.length > 6) return undefined;
    const axes = parseAxisParam((axis ?? reductionIndices)!, x.shape);
    const from = backend.valuesOf(x);
    const y = backend.allocateResult(shapesOf(x.shape, axes, keepDims ?? false), result, x);
    const isInt = result !== 'float32';
    const isMean = operation === 'Mean';
    const kernel = `reduce${isMean ? 'Sum' : operation}${isInt ? 'Int' : ''}`;
    const divisor = isMean ? axes.reduce((size, i) => size * x.shape[i]!, 1) : 1;
    if (y.values.length > 0) reduceInto(y.values, from, { kernel, shape: x.shape, axes }, divisor);
    return y.info;
  };
}

/** Of whole numbers and truth values, whole numbers. */
const summed = (dtype: tf.DataType) => (dtype === 'float32' ? 'float32' : 'int32');
const numeric = (dtype: tf.DataType) => (dtype === 'bool' ? undefined : dtype);
const logical = (dtype: tf.DataType) => (dtype === 'bool' ? dtype : undefined);

function indexOf(sign: 1 | -1): StockKernel {
  return ({ inputs, attrs, backend }) => {
    const x = inputs.x!;
    const axes = parseAxisParam((attrs as unknown as { axis: number }).axis, x.shape).slice(0, 1);
    const { kept, reduced, lanes } = planOf({ shape: x.shape, axes });
    if (!kept.layout || !reduced.layout) return undefined;
    const from = backend.valuesOf(x);
    const y = backend.allocate(kept.sizes, 'i32');
    if (y.values.length === 0) return y.info;
    const struct = structOf(
      [STORAGE[from.storage], STORAGE.i32, kept.size, reduced.size, reduced.size, 1, lanes],
      1,
    );
    const args: Argument[] = [from, y.values, struct, sign, kept.layout, reduced.layout];
    backend.device.kernel('reduceAxis', 'reduceToIndex').launch(gridOf(kept.size * lanes), 0, ...args);
    return y.info;
  };
}

function softmax(backend: CudaBackend, logits: tf.TensorInfo): tf.TensorInfo | undefined {
  if (logits.dtype !== 'float32') return undefined;
  const x = backend.valuesOf(logits);
  const y = backend.allocateResult([...logits.shape], 'float32', logits);
  const width = logits.shape.at(-1) ?? 1;
  if (x.length === 0) return y.info;
  const rows = x.length / width;
  const numbers = [STORAGE[x.storage], STORAGE[y.values.storage], rows, width];
  const kernel = backend.device.kernel('softmax', 'softmax');
  kernel.launch(gridOf(rows * LANES), 0, x, y.values, ...numbers);
  return y.info;
}

export const reductions: StockKernels = {
  Sum: reduction('Sum', summed),
  Mean: reduction('Mean', () => 'float32'),
  Prod: reduction('Product', summed),
  Max: reduction('Largest', numeric),
  Min: reduction('Smallest', numeric),
  All: reduction('Smallest', logical),
  Any: reduction('Largest', logical),
  ArgMax: indexOf(1),
  ArgMin: indexOf(-1),

  Softmax({ inputs, attrs, backend }: StockCall) {
    const { dim } = attrs as unknown as { dim: number };
    const logits = inputs.logits!;
    return dim === -1 || dim === logits.shape.length - 1 ? softmax(backend, logits) : undefined;
  },

  // The way back of a gather.
  UnsortedSegmentSum({ inputs, attrs, backend }: StockCall) {
    const { x, segmentIds } = inputs as Record<'x' | 'segmentIds', tf.TensorInfo>;
    const { numSegments } = attrs as unknown as { numSegments: number };
    const [rows = 0] = segmentIds.shape;
    if (segmentIds.shape.length !== 1 || rows !== x.shape[0] || segmentIds.dtype !== 'int32')
      return undefined;
    const result = summed(x.dtype);
    const from = backend.valuesOf(x);
    const shape = [numSegments, ...x.shape.slice(1)];
    const y = backend.allocateResult(shape, result, x);
    const { length } = y.values;
    if (length === 0) return y.info;
    const numbers = [STORAGE[from.storage], STORAGE[y.values.storage], rows, length / numSegments, length];
    const kernel = backend.device.kernel('reduceAxis', `segmentSums${result === 'int32' ? 'Int' : ''}`);
    kernel.launch(gridOf(length), 0, from, backend.valuesOf(segmentIds), y.values as DeviceArray, ...numbers);
    return y.info;
  },

  TopK({ inputs, attrs, backend }: StockCall) {
    const x = inputs.x!;
    const { k } = attrs as unknown as { k: number };
    const width = x.shape.at(-1) ?? 0;
    if (x.dtype === 'bool' || k > width) return undefined;
    const from = backend.valuesOf(x);
    const shape = [...x.shape.slice(0, -1), k];
    const values = backend.allocateResult(shape, x.dtype, x);
    const indices = backend.allocate(shape, 'i32');
    const rows = width === 0 ? 0 : from.length / width;
    const args: Argument[] = [from, values.values as DeviceArray, indices.values];
    const numbers = [STORAGE[from.storage], rows, width, k];
    if (rows > 0 && k > 0)
      backend.device.kernel('reduceAxis', 'topK').launch(gridOf(rows * LANES), 0, ...args, ...numbers);
    return [values.info, indices.info];
  },
};
