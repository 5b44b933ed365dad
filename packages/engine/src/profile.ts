/**
 * Where the time goes: every kernel of the running backend, every gradient function, and every call of the C++ core or launch on a
 * device, timed. While nothing is profiled nothing of this is in the way: profiling puts timed functions into the registries of
 * TensorFlow.js and in front of the C++ core, and takes them out again.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { deviceMeter, type LaunchTime } from './deviceMeter.ts';
import { replaceNativeCore } from './native.ts';

/** Milliseconds since some moment. */
export type Clock = () => number;

export const wallClock: Clock = () => performance.now();

/**
 * Time that the process has computed, all its threads together. On one thread it is the measure that other processes on
 * the same machine disturb least.
 */
export const cpuClock: Clock = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

export type Pass = 'forward' | 'backward';

/** An operation in one of the passes; or, outside of both, a function of the C++ core, or a device's, that was called by itself. */
export interface ProfileEntry {
  /** Name of TensorFlow.js's kernel (ours begin with "Sluice"), or of the function. */
  readonly name: string;
  readonly pass: Pass | undefined;
  calls: number;
  /** Inside of the C++ core, or on the device, by its own clock. */
  kernelMs: number;
  /** In JavaScript: a kernel that has no C++ one, or what surrounds the call of one. A device computes beside it. */
  javascriptMs: number;
}

export interface Profile {
  /** The most expensive first. */
  readonly entries: readonly ProfileEntry[];
  /** The whole time that was profiled. What the entries do not add up to lies outside of kernels: tape and bookkeeping. */
  readonly totalMs: number;
  /** Whether a device ran the kernels, so that they and JavaScript may have taken the same moments. */
  readonly isOnDevice: boolean;
}

/**
 * Told of each outermost operation, or call of the C++ core by itself, with when it began and ended; of those on a device, from the first
 * of its kernels to the last, once all are done.
 */
export type OnSpan = (entry: Pick<ProfileEntry, 'name' | 'pass'>, start: number, end: number) => void;

/** Times of nested calls: each moment belongs to the innermost one. */
class Recorder {
  readonly #entries = new Map<string, ProfileEntry>();
  readonly #open: ProfileEntry[] = [];
  readonly #clock: Clock;
  readonly #onSpan: OnSpan | undefined;
  /** Of which entry each launch is, and of which of the calls. */
  readonly #launches: { readonly entry: ProfileEntry; readonly call: number }[] = [];
  readonly #isOnDevice: boolean;
  #calls = 0;
  #last = 0;

  constructor(clock: Clock, isOnDevice: boolean, onSpan?: OnSpan) {
    this.#clock = clock;
    this.#isOnDevice = isOnDevice;
    this.#onSpan = onSpan;
  }

  /** Runs a kernel, or a gradient function. What it calls counts as part of it. */
  operation<T>(name: string, pass: Pass, body: () => T): T {
    if (this.#open.length > 0) return body();
    const entry = this.#entry(name, pass);
    const start = this.#clock();
    this.#last = start;
    this.#open.push(entry);
    this.#calls++;
    entry.calls++;
    try {
      return body();
    } finally {
      entry.javascriptMs += this.#lap();
      this.#open.pop();
      if (!this.#isOnDevice) this.#onSpan?.(entry, start, this.#last);
    }
  }

  native<T>(name: string, body: () => T): T {
    const surrounding = this.#open.at(-1);
    const entry = surrounding ?? this.#entry(name, undefined);
    if (surrounding) entry.javascriptMs += this.#lap();
    else {
      entry.calls++;
      this.#last = this.#clock();
    }
    const start = this.#last;
    try {
      return body();
    } finally {
      entry.kernelMs += this.#lap();
      if (!surrounding) this.#onSpan?.(entry, start, this.#last);
    }
  }

  /** A kernel is launched on the device, whose time is known later. */
  launched(kernel: string): void {
    const surrounding = this.#open.at(-1);
    const entry = surrounding ?? this.#entry(kernel, undefined);
    if (!surrounding) {
      this.#calls++;
      entry.calls++;
    }
    this.#launches.push({ entry, call: this.#calls });
  }

  /** @param times of all launches, in their order, since `begin` of the clock */
  addLaunches(times: readonly LaunchTime[], begin: number): void {
    let first = 0;
    for (const [i, { entry, call }] of this.#launches.entries()) {
      entry.kernelMs += times[i]!.end - times[i]!.start;
      if (this.#launches[i + 1]?.call === call) continue;
      this.#onSpan?.(entry, begin + times[first]!.start, begin + times[i]!.end);
      first = i + 1;
    }
  }

  #lap(): number {
    const now = this.#clock();
    const elapsed = now - this.#last;
    this.#last = now;
    return elapsed;
  }

  #entry(name: string, pass: Pass | undefined): ProfileEntry {
    const key = `${name}/${pass}`;
    const entry = this.#entries.get(key) ?? { name, pass, calls: 0, kernelMs: 0, javascriptMs: 0 };
    this.#entries.set(key, entry);
    return entry;
  }

  entries(): ProfileEntry[] {
    return [...this.#entries.values()].sort((a, b) => timeOf(b) - timeOf(a));
  }
}

export function timeOf({ kernelMs, javascriptMs }: ProfileEntry): number {
  return kernelMs + javascriptMs;
}

let isProfiling = false;

/** Runs `body` and tells what it spent its time on. Profiles do not nest. */
export async function profile(
  body: () => void | Promise<void>,
  clock: Clock = wallClock,
  onSpan?: OnSpan,
): Promise<Profile> {
  invariant(!isProfiling, 'profiles do not nest');
  const meter = deviceMeter();
  const isOnDevice = meter !== undefined;
  const recorder = new Recorder(clock, isOnDevice, onSpan);
  isProfiling = true;
  const launches = await meter?.timeLaunches((kernel) => recorder.launched(kernel));
  const restore = [timeNativeCore(recorder), timeKernels(recorder), timeGradients(recorder)];
  const start = clock();
  try {
    await body();
    if (launches) recorder.addLaunches(await launches.times(), start);
    return { entries: recorder.entries(), totalMs: clock() - start, isOnDevice };
  } finally {
    launches?.end();
    for (const undo of restore) undo();
    isProfiling = false;
  }
}

function timeNativeCore(recorder: Recorder): () => void {
  return replaceNativeCore((core) =>
    Object.fromEntries(
      Object.entries(core).map(([name, kernel]) => [
        name,
        (...args: Parameters<typeof kernel>) => recorder.native(name, () => kernel(...args)),
      ]),
    ),
  );
}

function timeKernels(recorder: Recorder): () => void {
  const kernels = tf.getKernelsForBackend(tf.getBackend());
  const register = (kernel: tf.KernelConfig) => {
    tf.unregisterKernel(kernel.kernelName, kernel.backendName);
    tf.registerKernel(kernel);
  };
  for (const kernel of kernels) {
    const { kernelName, kernelFunc } = kernel;
    // Only forward passes are recorded; what gradient functions call is inside of these, or is called by the walk of the
    // tape itself.
    const pass = (): Pass => (tf.engine().state.gradientDepth > 0 ? 'forward' : 'backward');
    register({
      ...kernel,
      kernelFunc: (call) => recorder.operation(kernelName, pass(), () => kernelFunc(call)),
    });
  }
  return () => {
    for (const kernel of kernels) register(kernel);
  };
}

function timeGradients(recorder: Recorder): () => void {
  const gradients = tf
    .getKernelsForBackend(tf.getBackend())
    .flatMap(({ kernelName }) => tf.getGradient(kernelName) ?? []);
  for (const gradient of gradients) {
    const { kernelName, gradFunc } = gradient;
    tf.registerGradient({
      ...gradient,
      gradFunc: (...args) => recorder.operation(kernelName, 'backward', () => gradFunc(...args)),
    });
  }
  return () => {
    for (const gradient of gradients) tf.registerGradient(gradient);
  };
}
