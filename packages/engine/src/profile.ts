/**
 * Where the time goes: every kernel of the running backend, every gradient function, and every call of the C++ core,
 * timed. While nothing is profiled nothing of this is in the way: profiling puts timed functions into the registries of
 * TensorFlow.js and in front of the C++ core, and takes them out again.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
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

/** An operation in one of the passes; or, outside of both, a function of the C++ core that was called by itself. */
export interface ProfileEntry {
  /** Name of TensorFlow.js's kernel (ours begin with "Sluice"), or of the function of the C++ core. */
  readonly name: string;
  readonly pass: Pass | undefined;
  calls: number;
  /** Inside of the C++ core. */
  nativeMs: number;
  /** In JavaScript: a kernel that has no C++ one, or what surrounds the call of one. */
  javascriptMs: number;
}

export interface Profile {
  /** The most expensive first. */
  readonly entries: readonly ProfileEntry[];
  /** The whole time that was profiled. What the entries do not add up to lies outside of kernels: tape and bookkeeping. */
  readonly totalMs: number;
}

/** Told of each outermost operation, or call of the C++ core by itself, with when it began and ended. */
export type OnSpan = (entry: Pick<ProfileEntry, 'name' | 'pass'>, start: number, end: number) => void;

/** Times of nested calls: each moment belongs to the innermost one. */
class Recorder {
  readonly #entries = new Map<string, ProfileEntry>();
  readonly #open: ProfileEntry[] = [];
  readonly #clock: Clock;
  readonly #onSpan: OnSpan | undefined;
  #last = 0;

  constructor(clock: Clock, onSpan?: OnSpan) {
    this.#clock = clock;
    this.#onSpan = onSpan;
  }

  /** Runs a kernel, or a gradient function. What it calls counts as part of it. */
  operation<T>(name: string, pass: Pass, body: () => T): T {
    if (this.#open.length > 0) return body();
    const entry = this.#entry(name, pass);
    const start = this.#clock();
    this.#last = start;
    this.#open.push(entry);
    entry.calls++;
    try {
      return body();
    } finally {
      entry.javascriptMs += this.#lap();
      this.#open.pop();
      this.#onSpan?.(entry, start, this.#last);
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
      entry.nativeMs += this.#lap();
      if (!surrounding) this.#onSpan?.(entry, start, this.#last);
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
    const entry = this.#entries.get(key) ?? { name, pass, calls: 0, nativeMs: 0, javascriptMs: 0 };
    this.#entries.set(key, entry);
    return entry;
  }

  entries(): ProfileEntry[] {
    return [...this.#entries.values()].sort((a, b) => timeOf(b) - timeOf(a));
  }
}

export function timeOf({ nativeMs, javascriptMs }: ProfileEntry): number {
  return nativeMs + javascriptMs;
}

let isProfiling = false;

/** Runs `body` and tells what it spent its time on. Profiles do not nest. */
export async function profile(
  body: () => void | Promise<void>,
  clock: Clock = wallClock,
  onSpan?: OnSpan,
): Promise<Profile> {
  invariant(!isProfiling, 'profiles do not nest');
  const recorder = new Recorder(clock, onSpan);
  isProfiling = true;
  const restore = [timeNativeCore(recorder), timeKernels(recorder), timeGradients(recorder)];
  const start = clock();
  try {
    await body();
    return { entries: recorder.entries(), totalMs: clock() - start };
  } finally {
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
