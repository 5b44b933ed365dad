/** What the kernels for TensorFlow.js's own operations have in common. */

import * as tf from '@tensorflow/tfjs';
import { axesOf } from '../../steps.ts';
import type { CudaBackend, TensorArray, TensorStorage } from '../backend.ts';
import type { DeviceArray } from '../device.ts';
import type { Grid } from '../driver.ts';
import { fill } from '../flatArithmetic.ts';
import { integersOf, MOST_INTEGER, refuseLaunch } from '../limits.ts';

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
/** Axes of an array in kernels. */
const MOST_AXES = 6;

/** A block for each 256 elements. @throws SLUICE_E_CUDA_KERNEL where their indices have more than 31 bits */
export function gridOf(elements: number): Grid {
  if (elements > MOST_INTEGER)
    refuseLaunch(`a tensor of ${elements} elements, where kernels count to ${MOST_INTEGER}`);
  return [Math.ceil(elements / THREADS)];
}

/**
 * `Layout` of `stock.h`.
 * @returns undefined where there are more axes than it has room for
 * @throws SLUICE_E_CUDA_KERNEL where elements lie further apart than 31 bits say
 */
export function layoutOf(
  shape: readonly number[],
  ...steps: readonly (readonly number[])[]
): Int32Array | undefined {
  const axes = axesOf(shape, steps);
  if (axes.length > MOST_AXES) return undefined;
  const layout = new Array<number>(1 + (1 + steps.length) * MOST_AXES).fill(0);
  layout[0] = axes.length;
  for (const [i, axis] of axes.entries()) {
    layout[1 + i] = axis.size;
    for (const [array, step] of axis.steps.entries()) layout[1 + (1 + array) * MOST_AXES + i] = step;
  }
  return integersOf(layout);
}

/** What stands for a tensor that is one number everywhere, where steps may be 0: that number. */
export function oneOf({ device }: CudaBackend, value: number, storage: TensorStorage): TensorArray {
  const key = `${storage} ${Object.is(value, -0) ? '-0' : value}`;
  return device.copies.of(key, () => {
    const one = device.allocate(1, storage);
    fill(one, value);
    return one;
  });
}

/** Runs `f` with the values of a tensor in `storage`: themselves, or, where they are stored otherwise, a copy. */
export function withValues<T>(
  backend: CudaBackend,
  x: tf.TensorInfo,
  storage: TensorStorage,
  f: (values: TensorArray) => T,
): T {
  const constant = backend.constantOf(x);
  const values = constant === undefined ? backend.valuesOf(x) : undefined;
  if (values?.storage === storage) return f(values);
  const { device } = backend;
  const copy = device.allocate(sizeFromShape(x.shape), storage);
  if (values) convert(values, copy);
  else fill(copy, constant!);
  try {
    return f(copy);
  } finally {
    device.free(copy);
  }
}

export function convert(from: TensorArray, to: TensorArray): void {
  const { device, length } = from;
  const storages = [STORAGE[from.storage], STORAGE[to.storage]];
  const kernel = device.kernel('elementwise', 'convert');
  if (length > 0) kernel.launch(gridOf(length), 0, from, to as DeviceArray, ...storages, length);
}

export const { sizeFromShape, parseAxisParam } = tf.util;
