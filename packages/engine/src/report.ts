/** What `sluice doctor` and the benchmarks say about the engine. */

import { availableCores } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { NATIVE_BACKEND } from './backend.ts';
import { hasFusedMultiplyAdd, nativeAbsence, nativeBuildInfo, nativeCore, threads } from './native.ts';

export interface EngineReport {
  /** The backend that runs when `native` is asked for. */
  readonly backend: string;
  readonly tensorflowVersion: string;
  /** Whether the C++ core is there, and otherwise why not. */
  readonly native: { readonly loaded: true } | { readonly loaded: false; readonly reason: string };
  readonly compiler: string | undefined;
  /** The instruction set that the core was compiled for, and what its vectors are made of. */
  readonly march: string | undefined;
  readonly simd: string;
  /** Whether the core computes a·b + c with one rounding, and so gives the bits that all such CPUs give. */
  readonly isFused: boolean;
  /** Single-precision numbers in a vector; 1 in a core without vectors, 0 without the core. */
  readonly vectorWidth: number;
  /** Whether kernels can run on several threads. */
  readonly openmp: boolean;
  /** Threads that the kernels called from this thread use now. */
  readonly threads: number;
  /** Threads that the machine runs at once. */
  readonly cores: number;
}

export function engineReport(): EngineReport {
  const core = nativeCore();
  const { compiler, march, openmp } = nativeBuildInfo();
  const vectorWidth = core?.vectorWidth?.() ?? 0;
  const isFused = core !== undefined && hasFusedMultiplyAdd();
  return {
    backend: core ? NATIVE_BACKEND : 'cpu',
    tensorflowVersion: tf.version_core,
    native: core ? { loaded: true } : { loaded: false, reason: nativeAbsence()! },
    compiler,
    march,
    simd: simdName(vectorWidth, isFused),
    isFused,
    vectorWidth,
    openmp: core !== undefined && openmp === true,
    threads: threads(),
    cores: availableCores().count,
  };
}

function simdName(vectorWidth: number, isFused: boolean): string {
  if (vectorWidth <= 1) return 'none';
  if (process.arch === 'arm64') return 'NEON';
  const names: Readonly<Record<number, string>> = { 16: 'AVX-512', 8: isFused ? 'AVX2' : 'AVX', 4: 'SSE' };
  return names[vectorWidth]!;
}
