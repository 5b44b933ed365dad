/**
 * Frequencies of the rotary embedding, plain or stretched over sequences longer than those of training.
 *
 * With D channels of a head (or R of them, where only part of it is rotated), base b and pair i = 0 … D/2−1, the plain frequency is θ_i = b^(−2i/D).
 * - Position interpolation (Chen et al., arXiv 2306.15595): θ_i / s for all i.
 * - YaRN (Peng et al., arXiv 2309.00071): high frequencies stay, low ones are interpolated, between them a ramp, and
 *   cosines and sines are multiplied by m = 0.1·ln s + 1, so attention's logits by m². The ramp is the one of
 *   Hugging Face's `transformers`, linear in the index i between whole indices (the article's own is linear in the number of
 *   turns): with c(r) = D·ln(L/(2πr)) / (2·ln b), the index of the frequency that makes r turns in the trained length L,
 *   it rises from 0 at ⌊c(β_fast)⌋ to 1 at ⌈c(β_slow)⌉.
 */

import { elementary } from '@sluice/core';
import { type RotaryTable, rotaryTableOf } from '@sluice/engine';
import type { ModelConfig } from './config.ts';
import type { RopeScalingConfig } from './ropeConfig.ts';

export interface RotaryFrequencies {
  /** Of each pair of channels that turns, radians a position, [R/2]. */
  readonly frequencies: Float64Array;
  /** Factor of rotated queries and keys (m); 1 for none. */
  readonly attentionFactor: number;
}

type RopeConfig = Pick<ModelConfig, 'headDim' | 'ropeTheta' | 'ropeScaling' | 'rotaryDim' | 'positions'>;

/** Of the pairs that turn, R/2 of a head's D/2. */
export function rotaryFrequencies({
  headDim,
  rotaryDim = headDim,
  ropeTheta,
  ropeScaling,
}: RopeConfig): RotaryFrequencies {
  const plain = Float64Array.from({ length: rotaryDim / 2 }, (_, i) =>
    elementary.power(ropeTheta, (-2 * i) / rotaryDim),
  );
  if (!ropeScaling) return { frequencies: plain, attentionFactor: 1 };
  switch (ropeScaling.kind) {
    case 'linear':
      return { frequencies: plain.map((frequency) => frequency / ropeScaling.factor), attentionFactor: 1 };
    case 'llama3':
      return { frequencies: plain.map((frequency) => llama3(frequency, ropeScaling)), attentionFactor: 1 };
    case 'proportional': {
      const turning = Math.floor(ropeScaling.share * plain.length);
      return { frequencies: plain.map((frequency, i) => (i < turning ? frequency : 0)), attentionFactor: 1 };
    }
    case 'yarn': {
      const { factor, attentionFactor } = ropeScaling;
      const ramp = yarnRamp(ropeScaling, rotaryDim, ropeTheta);
      return {
        frequencies: plain.map((frequency, i) => frequency * (1 - ramp(i)) + (frequency / factor) * ramp(i)),
        attentionFactor: attentionFactor ?? yarnAttentionFactor(factor),
      };
    }
  }
}

/** Factor of rotated queries and keys where the configuration has none (YaRN, arXiv 2309.00071). */
export function yarnAttentionFactor(factor: number): number {
  return 0.1 * elementary.log(factor) + 1;
}

/** Llama 3.1 (arXiv 2407.21783): frequencies kept, divided, or between both, by their turns within the trained length. */
function llama3(
  frequency: number,
  {
    factor,
    originalLength,
    lowFrequencyFactor: low,
    highFrequencyFactor: high,
  }: Extract<RopeScalingConfig, { kind: 'llama3' }>,
): number {
  const turns = (originalLength * frequency) / (2 * Math.PI);
  if (turns < low) return frequency / factor;
  if (turns > high) return frequency;
  const kept = (turns - low) / (high - low);
  return ((1 - kept) * frequency) / factor + kept * frequency;
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

/**
 * Cosines and sines for positions 0 … length−1. Of a head's D/2 pairs (channel i with i + D/2) the first R/2 turn; the rest,
 * and all of them where queries and keys have no positions, stay as they are.
 */
export function rotaryTableFor(model: RopeConfig, length: number): RotaryTable {
  const half = model.headDim / 2;
  if (model.positions === 'none') return rotaryTableOf(length, new Float64Array(half));
  const { frequencies, attentionFactor } = rotaryFrequencies(model);
  const turning = rotaryTableOf(length, frequencies, attentionFactor);
  if (frequencies.length === half) return turning;
  const table = rotaryTableOf(length, new Float64Array(half));
  for (let position = 0; position < length; position++) {
    const row = position * frequencies.length;
    table.cos.set(turning.cos.subarray(row, row + frequencies.length), position * half);
    table.sin.set(turning.sin.subarray(row, row + frequencies.length), position * half);
  }
  return table;
}
