/**
 * The outer optimizer of low-communication training: gradient descent with Nesterov's momentum, on the difference between the weights
 * that the replicas began with and the mean of where they came to (arXiv 2311.08105, algorithm 1). Single precision, each operation
 * rounded by itself, so that the bits are the same everywhere.
 */

import type { SynchronizeConfig } from './config.ts';

/** outer − inner, of each element. */
export function difference(outer: Float32Array, inner: Float32Array, result: Float32Array): void {
  for (let i = 0; i < result.length; i++) result[i] = outer[i]! - inner[i]!;
}

/**
 * m ← μ·m + g; w ← w − η·(g + μ·m), with g the mean difference.
 * @param weights those of the last synchronization; become the new ones
 * @param sums of the differences of all replicas
 */
export function outerStep(
  weights: Float32Array,
  momentum: Float32Array,
  sums: Float32Array,
  { learningRate, momentum: factor, replicas }: SynchronizeConfig,
): void {
  const rate = Math.fround(learningRate);
  const kept = Math.fround(factor);
  // The number of replicas is a power of two, so that this changes no digit.
  const share = 1 / replicas;
  for (let i = 0; i < weights.length; i++) {
    const gradient = Math.fround(sums[i]! * share);
    const m = Math.fround(Math.fround(kept * momentum[i]!) + gradient);
    momentum[i] = m;
    const step = Math.fround(gradient + Math.fround(kept * m));
    weights[i] = weights[i]! - Math.fround(rate * step);
  }
}

/** inner ← α·inner + (1 − α)·outer, of each element (arXiv 2501.18512, algorithm 2). */
export function mix(inner: Float32Array, outer: Float32Array, mixing: number): void {
  const [own, theirs] = [Math.fround(mixing), Math.fround(1 - mixing)];
  for (let i = 0; i < inner.length; i++)
    inner[i] = Math.fround(own * inner[i]!) + Math.fround(theirs * outer[i]!);
}
