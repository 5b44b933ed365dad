/** What arithmetic the running backend means, and in which precision. */

import * as tf from '@tensorflow/tfjs';
import { NATIVE_BACKEND } from './backend.ts';
import { hasFusedMultiplyAdd, nativeCore } from './native.ts';
import type { Precision } from './precision.ts';

/**
 * The kernels' arithmetic. It is raised with every change that makes a result other bits, so that a checkpoint's probe from
 * before is compared with tolerance, and a stored hash from before is not compared at all.
 */
const NATIVE_ARITHMETIC = 1;

/**
 * Names what the bits of a result depend on. `native` has one name on all CPUs that have a fused multiply-add (AVX-512, AVX2,
 * NEON, also without vectors), for all compilers: they give the same bits. CPUs without it have another.
 */
export function arithmetic(): string {
  const backend = tf.getBackend();
  if (backend === NATIVE_BACKEND) return nativeArithmetic();
  return (tf.backend() as { arithmetic?: string }).arithmetic ?? backend;
}

/** What computes, for whoever reads a result. */
export interface Computation {
  /** Name of the backend that runs. */
  readonly backend: string;
  /** Of activations. */
  readonly precision: Precision;
  /** What the bits depend on, as `arithmetic` names it. */
  readonly arithmetic: string;
}

/** That of the running backend. */
export function computation(): Computation {
  // Those that do not say have single precision alone.
  const { precision = 'f32' } = tf.backend() as { precision?: Precision };
  return { backend: tf.getBackend(), precision, arithmetic: arithmetic() };
}

/** The arithmetic that `native` has on this machine: the core's, or that of `cpu` where there is none. */
export function nativeArithmetic(): string {
  if (!nativeCore()) return 'cpu';
  const everywhere = `${NATIVE_BACKEND}-${NATIVE_ARITHMETIC}`;
  return hasFusedMultiplyAdd() ? everywhere : `${everywhere}-unfused`;
}
