/** Sums over flat buffers, in an order that is fixed. */

import { BLOCK_ELEMENTS, invariant } from '@sluice/core';
import { copyInto } from './memory.ts';
import { callNative, nativeCore } from './native.ts';

/**
 * The sum of squares of each block, in double precision. Blocks that start at multiples of `blockElements` of a tensor have
 * the same sums whoever owns them, so that a global norm is the same for any number of workers.
 * @param values a whole tensor or a block-aligned piece of one
 * @returns ⌈length / blockElements⌉ sums
 */
export function squaredNorms(values: Float32Array, blockElements = BLOCK_ELEMENTS): Float64Array {
  const norms = new Float64Array(Math.ceil(values.length / blockElements));
  if (nativeCore()) {
    callNative('squaredNorms', values, norms, values.length, blockElements);
    return norms;
  }
  for (let i = 0; i < values.length; i++) norms[Math.floor(i / blockElements)]! += values[i]! * values[i]!;
  return norms;
}

/** What can be summed. Whole numbers wrap around at 32 bits. */
export type SummableArray = Float32Array | Float64Array | Int32Array;

/** Adds `source` to `target`, element by element. */
export function sumInto<T extends SummableArray>(target: T, source: T): void {
  sumTree(target, [target, source]);
}

/** Sources that one call of the kernel takes. */
const MOST_SOURCES = 30;

/**
 * Writes the sum of `sources` to `target`, which may be one of them. Sums are formed by halves, the left one having the
 * largest power of two of sources that is smaller than their number: ((0+1)+(2+3))+((4+5)+(6+7)).
 */
export function sumTree<T extends SummableArray>(target: T, sources: readonly T[]): void {
  for (const source of sources) {
    invariant(source.length === target.length, `${source.length} values cannot be added to ${target.length}`);
  }
  invariant(sources.length > 0, 'a sum needs a source');
  if (sources.length === 1) {
    if (sources[0] !== target) copyInto(target, sources[0]!);
  } else if (nativeCore() && sources.length <= MOST_SOURCES) {
    callNative(kernelFor(target), target.length, target, ...sources);
  } else {
    let left = 1;
    while (left * 2 < sources.length) left *= 2;
    const halves = [sources.slice(0, left), sources.slice(left)].map(sumOf) as [T, T];
    addPlainly(target, halves[0], halves[1]);
  }
}

function sumOf<T extends SummableArray>(sources: readonly T[]): T {
  if (sources.length === 1) return sources[0]!;
  const sum = sources[0]!.slice() as T;
  sumTree(sum, sources);
  return sum;
}

function addPlainly<T extends SummableArray>(target: T, left: T, right: T): void {
  for (let i = 0; i < target.length; i++) target[i] = left[i]! + right[i]!;
}

function kernelFor(array: SummableArray): string {
  if (array instanceof Float32Array) return 'sumTreeFloat32';
  return array instanceof Float64Array ? 'sumTreeFloat64' : 'sumTreeInt32';
}
