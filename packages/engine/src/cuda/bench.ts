/** Rates of the kernels of a device beside what it can do at most, by the device's own clock. */

import { invariant } from '@sluice/core';
import { namedCases } from '../bench/namedCases.ts';
import type { ProductPeak } from '../deviceMeter.ts';
import type { Precision } from '../precision.ts';
import { BorrowedMemory } from './cases/case.ts';
import { productCase } from './cases/products.ts';
import { type RateCase, rateCases, type Scale, type Yardstick } from './cases/rates.ts';
import type { CudaDevice } from './device.ts';
import { isCudaEmulated } from './environment.ts';

/** For products: a Hopper's own, and that of all. */
export const PEAK_INSTRUCTIONS = ['wgmma', 'mma.sync'] as const;
export type PeakInstruction = (typeof PEAK_INSTRUCTIONS)[number];

/** What a device can do at most. */
export interface Ceilings {
  /** Of copies in its memory, bytes read and written. */
  readonly copyGBps: number;
  /** Of products on operands that are where the instruction has them: by `mma.sync` from registers, by `wgmma` from shared memory. */
  readonly tensorGflops: number;
  readonly instruction: PeakInstruction;
  /** From one launch of a kernel that does next to nothing to the end of the next, in a row of them. */
  readonly launchMicroseconds: number;
}

export interface KernelRate {
  readonly name: string;
  /** Median of one run. */
  readonly ms: number;
  /** Arithmetic rate, where arithmetic is the limit. */
  readonly gflops?: number;
  /** Traffic with memory, where that is the limit. */
  readonly gigabytesPerSecond?: number;
  /** Of the ceiling of the kind (`shareOf`), where it is known. Above 1 where what is read or written still lies in a cache. */
  readonly share?: number;
  readonly yardstick?: Yardstick;
}

interface Effort {
  /** Shorter work is repeated within one measurement. */
  readonly leastMs: number;
  /** Measurements, of which the median counts. */
  readonly repetitions: number;
}

const EFFORT: Readonly<Record<Scale, Effort>> = {
  full: { leastMs: 3, repetitions: 11 },
  tiny: { leastMs: 0, repetitions: 1 },
};
const MOST_RUNS = 1000;

/** Milliseconds of one run by the device's clock: the median, after runs that are not counted. */
export async function medianOnDevice(
  { driver }: CudaDevice,
  run: () => void,
  { leastMs, repetitions }: Effort,
): Promise<number> {
  // Compiles, and brings the clock up.
  run();
  const once = await driver.time(run);
  const runs = Math.min(MOST_RUNS, Math.max(1, Math.ceil(leastMs / Math.max(once, 1e-3))));
  const times: number[] = [];
  for (let i = 0; i < repetitions; i++) {
    const ms = await driver.time(() => {
      for (let at = 0; at < runs; at++) run();
    });
    times.push(ms / runs);
  }
  return times.sort((a, b) => a - b)[repetitions >> 1]!;
}

/** Of `peak.cu` and `peakHopper.cu`: blocks of a multiprocessor, and operations that a block does in a step. */
const PEAKS = {
  'mma.sync': {
    ...{ file: 'peak', name: 'peakProducts', threads: 256, blocks: 2, sharedBytes: 0 },
    flopsOfStep: (256 / 32) * 8 * (2 * 16 * 8 * 16),
  },
  wgmma: {
    ...{ file: 'peakHopper', name: 'peakProductsHopper', threads: 256, blocks: 1 },
    ...{ sharedBytes: (2 * 64 + 256) * 64 * 2, flopsOfStep: 2 * 4 * (2 * 64 * 256 * 16) },
  },
};

export async function measureCeilings(
  device: CudaDevice,
  scale: Scale,
  instruction: PeakInstruction = device.isHopper ? 'wgmma' : 'mma.sync',
): Promise<Ceilings> {
  const effort = EFFORT[scale];
  const bytes = scale === 'full' ? 2 ** 29 : 2 ** 16;
  const [from, to] = [device.allocate(bytes / 4, 'f32'), device.allocate(bytes / 4, 'f32')];
  device.driver.fill(from.address, 0x3f800000, from.length);
  const copyMs = await medianOnDevice(
    device,
    () => device.driver.copy(to.address, from.address, bytes),
    effort,
  );
  for (const array of [from, to]) device.free(array);

  const { file, name, threads, sharedBytes, flopsOfStep, blocks: ofMultiprocessor } = PEAKS[instruction];
  const blocks = ofMultiprocessor * (scale === 'full' ? device.multiprocessors : 1);
  const steps = scale === 'full' ? 4096 : 4;
  const sums = device.allocate(blocks * threads, 'f32');
  const peak = device.kernel(file, name);
  const peakMs = await medianOnDevice(device, () => peak.launch([blocks], sharedBytes, sums, steps), effort);

  const launch = () => device.kernel('flat', 'scale').launch([1], 0, sums, 1, 1);
  const launches = scale === 'full' ? MOST_RUNS : 10;
  const launchMs = await medianOnDevice(
    device,
    () => {
      for (let i = 0; i < launches; i++) launch();
    },
    { ...effort, leastMs: 0 },
  );
  device.free(sums);
  return {
    copyGBps: (2 * bytes) / copyMs / 1e6,
    tensorGflops: (blocks * steps * flopsOfStep) / peakMs / 1e6,
    instruction,
    launchMicroseconds: (1000 * launchMs) / launches,
  };
}

/** Edges of the product of square matrices by which a step is judged. */
const PEAK_EDGES = { full: { bf16: 8192, f32: 4096 }, tiny: { bf16: 128, f32: 128 } };

/** See `DeviceMeter.measurePeak`. */
export async function measureProductPeak(device: CudaDevice, precision: Precision): Promise<ProductPeak> {
  const scale = isCudaEmulated() ? 'tiny' : 'full';
  const edge = PEAK_EDGES[scale][precision];
  const memory = new BorrowedMemory(device);
  try {
    const { run, flops } = productCase(
      memory,
      'matmul',
      { M: edge, N: edge, K: edge },
      { storage: precision },
    );
    const ms = await medianOnDevice(device, run, EFFORT[scale]);
    return { edge, gflops: flops! / ms / 1e6 };
  } finally {
    memory.giveBack();
  }
}

/** What `measureRates` measures. */
export interface RateCases {
  readonly scale: Scale;
  readonly named: ReturnType<typeof namedCases<RateCase>>;
}

/**
 * Of all cases those whose name contains `filter`.
 * @throws SLUICE_E_USAGE where there is none
 */
export function ratesNamed(scale: Scale, filter = ''): RateCases {
  return { scale, named: namedCases(rateCases(scale), filter) };
}

/** Measures one case after the other, each in memory of its own. */
export async function* measureRates(
  device: CudaDevice,
  ceilings: Ceilings,
  { scale, named }: RateCases,
): AsyncGenerator<KernelRate> {
  for (const [name, rated] of named) {
    const rate = await measureRate(device, scale, name, rated);
    yield { ...rate, share: shareOf(rate, ceilings) };
  }
}

/** Measures a case, in memory of its own. */
export async function measureRate(
  device: CudaDevice,
  scale: Scale,
  name: string,
  { make, yardstick }: RateCase,
): Promise<KernelRate> {
  const memory = new BorrowedMemory(device);
  try {
    const { run, flops, bytes } = make(memory);
    const ms = await medianOnDevice(device, run, EFFORT[scale]);
    invariant(flops !== undefined || bytes !== undefined, `${name} has neither arithmetic nor traffic`);
    const rate =
      flops !== undefined ? { gflops: flops / ms / 1e6 } : { gigabytesPerSecond: bytes! / ms / 1e6 };
    return { name, ms, ...rate, ...(yardstick && { yardstick }) };
  } finally {
    memory.giveBack();
  }
}

/** Of what the device does at most, of arithmetic or of traffic. */
export function shareOf(
  { gflops, gigabytesPerSecond }: Pick<KernelRate, 'gflops' | 'gigabytesPerSecond'>,
  { tensorGflops, copyGBps }: Ceilings,
): number {
  return gflops !== undefined ? gflops / tensorGflops : gigabytesPerSecond! / copyGBps;
}
