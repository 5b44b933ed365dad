/** What the kernels for TensorFlow.js's own operations have in common. */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { axesOf } from '../../steps.ts';
import type { CudaBackend, TensorArray, TensorStorage } from '../backend.ts';
import type { DeviceArray } from '../device.ts';
import type { Grid } from '../driver.ts';
import { widen } from '../flatArithmetic.ts';

export interface StockCall {
  /** By name; where there is any number of them, by number. */
  readonly inputs: Readonly<Record<string, tf.TensorInfo>>;
  readonly attrs: tf.NamedAttrMap;
  readonly backend: CudaBackend;
}

/** Serves an operation, or gives undefined: then the CPU backend does. */
export type StockKernel = (call: StockCall) => tf.TensorInfo | tf.TensorInfo[] | undefined;

/** By the name of the operation. */
export type StockKernels = Readonly<Record<string, StockKernel>>;

/** How kernels name a storage (`cuda/stock.h`). */
export const STORAGE: Readonly<Record<TensorStorage, number>> = { f32: 0, bf16: 1, i32: 2 };

export const THREADS = 256;
/** Indices of elements have 31 bits in kernels. */
const MOST_ELEMENTS = 2 ** 31 - 1;
/** Axes of an array in kernels. */
const MOST_AXES = 6;

/** A block for each 256 elements. */
export function gridOf(elements: number): Grid {
  invariant(
    elements <= MOST_ELEMENTS,
    `a tensor of ${elements} elements, where kernels take ${MOST_ELEMENTS}`,
  );
  return [Math.ceil(elements / THREADS)];
}

/** `Layout` of `stock.h`. @returns undefined where there are more axes than it has room for */
export function layoutOf(
  shape: readonly number[],
  ...steps: readonly (readonly number[])[]
): Int32Array | undefined {
  const axes = axesOf(shape, steps);
  if (axes.length > MOST_AXES) return undefined;
  const layout = new Int32Array(1 + (1 + steps.length) * MOST_AXES);
  layout[0] = axes.length;
  for (const [i, axis] of axes.entries()) {
    layout[1 + i] = axis.size;
    for (const [array, step] of axis.steps.entries()) layout[1 + (1 + array) * MOST_AXES + i] = step;
  }
  return layout;
}

/** The storage of an operation's result: bf16 where all its inputs are, otherwise single precision. */
export function resultStorage(dtype: tf.DataType, ...arrays: readonly TensorArray[]): TensorStorage {
  if (dtype !== 'float32') return 'i32';
  return arrays.length > 0 && arrays.every(({ storage }) => storage === 'bf16') ? 'bf16' : 'f32';
}

/** Runs `f` with the array, or with a copy of it in single precision where it is bf16. */
export function withFloats<T>(array: TensorArray, f: (array: TensorArray) => T): T {
  if (array.storage !== 'bf16') return f(array);
  const floats = array.device.allocate(array.length, 'f32');
  widen(floats, array as DeviceArray<'bf16'>);
  try {
    return f(floats);
  } finally {
    array.device.free(floats);
  }
}

export const { sizeFromShape, parseAxisParam } = tf.util;
