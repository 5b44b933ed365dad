/** The speed of every kernel of the C++ core, at the sizes of the training shapes, beside what the machine can do. */

import { invariant } from '@sluice/core';
import { arithmetic } from '../computation.ts';
import { measureSgemmPeak } from '../matrixProduct.ts';
import { callNative, setThreads, threads } from '../native.ts';
import { type Clock, wallClock } from '../profile.ts';
import { selectBackend } from '../select.ts';
import { attentionCases } from './attentionCases.ts';
import { deltaRuleCases } from './deltaRuleCases.ts';
import { elementCases } from './elementCases.ts';
import { expertCases } from './expertCases.ts';
import { measureCopyBandwidth, medianMs, type Work } from './measure.ts';
import { namedCases } from './namedCases.ts';
import { productCases } from './productCases.ts';

/** Name of the case, which says its size, and what makes the work. */
export type BenchCases = Readonly<Record<string, () => Work>>;

export const KERNEL_CASES: BenchCases = {
  ...productCases,
  ...attentionCases,
  ...deltaRuleCases,
  ...expertCases,
  ...elementCases,
};

export interface KernelMeasurement {
  readonly name: string;
  readonly ms: number;
  /** Arithmetic rate, where arithmetic is the limit. */
  readonly gflops?: number;
  /** Traffic with memory, where that is the limit. */
  readonly gigabytesPerSecond?: number;
  /** Of the machine's limit of the kind. Above 1 where what is read or written still lies in a cache. */
  readonly share: number;
}

export interface KernelBench {
  readonly arithmetic: string;
  readonly threads: number;
  /** Rate of a 2048³ single-precision product in this process. */
  readonly sgemmPeakGflops: number;
  /** Bytes read and written by a copy of 64 MiB in this process. */
  readonly copyGBps: number;
  readonly kernels: readonly KernelMeasurement[];
}

export interface KernelBenchOptions {
  readonly threads: number;
  /** Only cases whose name contains it. */
  readonly filter?: string | undefined;
  /** What time is measured by. */
  readonly clock?: Clock | undefined;
  /** Measurements of each kernel, of which the median counts. */
  readonly repetitions?: number | undefined;
  /** Told how many kernels have been measured, of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** @throws SLUICE_E_USAGE where no case has a name with the filter in it */
export async function benchKernels(options: KernelBenchOptions): Promise<KernelBench> {
  const { clock = wallClock, repetitions = 7, filter = '' } = options;
  const cases = namedCases(KERNEL_CASES, filter);
  await selectBackend('native');
  setThreads(options.threads);
  const sgemmPeakGflops = measureSgemmPeak(5, clock);
  const copy = (from: Float32Array, to: Float32Array) =>
    void callNative(
      'dispatchTokens',
      from,
      Int32Array.from({ length: 64 }, (_, i) => i),
      to,
      64,
      1,
      from.length / 64,
    );
  const copyGBps = measureCopyBandwidth(copy, clock);
  const kernels = cases.map(([name, prepare], done): KernelMeasurement => {
    options.onProgress?.(done, cases.length);
    const work = prepare();
    const ms = medianMs(work, repetitions, clock);
    if (work.flops !== undefined) {
      const gflops = work.flops / ms / 1e6;
      return { name, ms, gflops, share: gflops / sgemmPeakGflops };
    }
    invariant(work.bytes !== undefined, `${name} has neither arithmetic nor traffic`);
    const gigabytesPerSecond = work.bytes / ms / 1e6;
    return { name, ms, gigabytesPerSecond, share: gigabytesPerSecond / copyGBps };
  });
  return { arithmetic: arithmetic(), threads: threads(), sgemmPeakGflops, copyGBps, kernels };
}
