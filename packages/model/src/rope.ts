/**
 * Frequencies of the rotary embedding, plain or stretched over sequences longer than those of training.
 *
 * With D channels of a head, base b and pair i = 0 … D/2−1, the plain frequency is θ_i = b^(−2i/D).
 * - Position interpolation (Chen et al., arXiv 2306.15595): θ_i / s for all i.
 * - YaRN (Peng et al., arXiv 2309.00071): high frequencies stay, low ones are interpolated, between them a ramp, and
 *   cosines and sines are multiplied by m = 0.1·ln s + 1, so attention's logits by m². The ramp is the one of
 *   Hugging Face's `transformers`, linear in the index i between whole indices (the article's own is linear in the number of
 *   turns): with c(r) = D·ln(L/(2πr)) / (2·ln b), the index of the frequency that makes r turns in the trained length L,
 *   it rises from 0 at ⌊c(β_fast)⌋ to 1 at ⌈c(β_slow)⌉.
 */

import { elementary } from '@sluice/core';
import { type RotaryTable, rotaryTableOf } from '@sluice/engine';
import type { ModelConfig, RopeScalingConfig } from './config.ts';

export interface RotaryFrequencies {
  /** Of each pair of channels, radians a position, [D/2]. */
  readonly frequencies: Float64Array;
  /** Factor of rotated queries and keys (m); 1 for none. */
  readonly attentionFactor: number;
}

type RopeConfig = Pick<ModelConfig, 'headDim' | 'ropeTheta' | 'ropeScaling'>;

export function rotaryFrequencies({ headDim, ropeTheta, ropeScaling }: RopeConfig): RotaryFrequencies {
  const plain = Float64Array.from({ length: headDim / 2 }, (_, i) =>
    elementary.power(ropeTheta, (-2 * i) / headDim),
  );
  if (!ropeScaling) return { frequencies: plain, attentionFactor: 1 };
  const { factor } = ropeScaling;
  if (ropeScaling.kind === 'linear') {
    return { frequencies: plain.map((frequency) => frequency / factor), attentionFactor: 1 };
  }
  const ramp = yarnRamp(ropeScaling, headDim, ropeTheta);
  return {
    frequencies: plain.map((frequency, i) => frequency * (1 - ramp(i)) + (frequency / factor) * ramp(i)),
    attentionFactor: ropeScaling.attentionFactor ?? 0.1 * elementary.log(factor) + 1,
  };
}

type YarnConfig = Extract<RopeScalingConfig, { kind: 'yarn' }>;

/** How far pair i is interpolated: 0 not at all, 1 fully. */
function yarnRamp(
  { originalLength, betaFast, betaSlow }: YarnConfig,
  headDim: number,
  theta: number,
): (i: number) => number {
  const indexOfTurns = (turns: number) =>
    (headDim * elementary.log(originalLength / (2 * Math.PI * turns))) / (2 * elementary.log(theta));
  const low = Math.max(Math.floor(indexOfTurns(betaFast)), 0);
  const high = Math.min(Math.ceil(indexOfTurns(betaSlow)), headDim - 1);
  // A ramp of no width would divide by zero; `transformers` widens it by the same.
  const width = high === low ? 0.001 : high - low;
  return (i) => Math.min(Math.max((i - low) / width, 0), 1);
}

/** Cosines and sines for positions 0 … length−1. */
export function rotaryTableFor(model: RopeConfig, length: number): RotaryTable {
  const { frequencies, attentionFactor } = rotaryFrequencies(model);
  return rotaryTableOf(length, frequencies, attentionFactor);
}
