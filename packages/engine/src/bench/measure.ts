/** Timing of a piece of work, and what the machine can do at most. */

import { matrixProduct, type ProductSizes } from '../matrixProduct.ts';
import { makeFloats } from '../memory.ts';
import type { Clock } from '../profile.ts';

/** A piece of work whose arithmetic, or whose traffic with memory, is known. */
export interface Work {
  /** Makes good what the last `run` changed; not timed. */
  readonly before?: (() => void) | undefined;
  readonly run: () => void;
  /** Floating-point operations (a fused multiply-add counts two), where arithmetic is the limit. */
  readonly flops?: number | undefined;
  /** Bytes that must be read and written at least, where memory is the limit. */
  readonly bytes?: number | undefined;
}

/** Shorter work is repeated within one measurement, so that the clock's steps do not show. */
const LEAST_MS = 2;

/** @returns milliseconds of one run: the median of `repetitions`, after one that is not counted */
export function medianMs({ before, run }: Work, repetitions: number, clock: Clock): number {
  before?.();
  const once = timed(run, 1, clock);
  // Work that has to be made good can only be measured run by run.
  const runs = before ? 1 : Math.max(1, Math.ceil(LEAST_MS / Math.max(once, 1e-3)));
  const times = Array.from({ length: repetitions }, () => {
    before?.();
    return timed(run, runs, clock);
  });
  return times.sort((a, b) => a - b)[repetitions >> 1]!;
}

function timed(run: () => void, runs: number, clock: Clock): number {
  const start = clock();
  for (let i = 0; i < runs; i++) run();
  return (clock() - start) / runs;
}

/** Floats of the buffer that is copied: far more than the caches hold. */
const COPIED = 1 << 24;

/** Bytes a second that a copy reads and writes, in GB/s: the best of `repetitions`. */
export function measureCopyBandwidth(
  copy: (a: Float32Array, b: Float32Array) => void,
  clock: Clock,
  repetitions = 5,
): number {
  const [a, b] = [makeFloats(COPIED).fill(1), makeFloats(COPIED).fill(1)];
  const times = Array.from({ length: repetitions }, () => timed(() => copy(a, b), 1, clock));
  return (2 * COPIED * 4) / Math.min(...times) / 1e6;
}

/** A product of random matrices as work. */
export function product(sizes: ProductSizes): Work {
  const { rows, columns, depth } = sizes;
  const [a, b, c] = [filled(rows * depth), filled(depth * columns), filled(rows * columns)];
  return { run: () => matrixProduct(a, b, c, sizes), flops: 2 * rows * columns * depth };
}

/** Numbers in [-scale, scale), the same each time. */
export function filled(length: number, scale = 1): Float32Array {
  let state = 1;
  const numbers = makeFloats(length);
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    numbers[i] = scale * (state / 2 ** 31 - 1);
  }
  return numbers;
}
