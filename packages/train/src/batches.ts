/**
 * The global batch as a fixed list of grains, cut into lanes, shared out among workers (design §3). What a grain holds
 * depends only on the step and its number, never on who computes it.
 */

import type { Sampler } from '@sluice/data';
import { type BatchSettings, sequencesAt } from './batchSizes.ts';
import type { RunConfig } from './config.ts';

/** Sequences of tokens by their number; a `Sampler` of a corpus is one. */
export type TokenSource = Pick<Sampler, 'numSequences' | 'sequenceLength' | 'read'>;

/** The tokens of one grain: `sequences` rows of T tokens, and for each the token that follows. */
export interface Grain {
  /** Number within the global batch. */
  readonly index: number;
  readonly sequences: number;
  readonly inputs: Int32Array;
  readonly targets: Int32Array;
}

/** Numbers of the grains of each lane of one worker in a step. */
export function lanesOf(
  config: BatchSettings & Pick<RunConfig, 'parallel'>,
  step: number,
  rank: number,
  workers: number,
): number[][] {
  const { lanes } = config.parallel;
  const grainsPerLane = sequencesAt(config, step) / config.batch.grainSequences / lanes;
  const lanesPerWorker = lanes / workers;
  return Array.from({ length: lanesPerWorker }, (_, i) => {
    const firstGrain = (rank * lanesPerWorker + i) * grainsPerLane;
    return Array.from({ length: grainsPerLane }, (_, grain) => firstGrain + grain);
  });
}

/** The most grains that a global batch has. */
export function grainCount({ batch }: Pick<RunConfig, 'batch'>): number {
  return batch.sequences / batch.grainSequences;
}

/**
 * Reads consecutive samples as one grain.
 * @param firstSample index of its first sample in the sampler's order
 */
export function readGrain(
  sampler: TokenSource,
  index: number,
  firstSample: number,
  sequences: number,
): Grain {
  const length = sampler.sequenceLength;
  const inputs = new Int32Array(sequences * length);
  const targets = new Int32Array(sequences * length);
  const tokens = new Int32Array(length + 1);
  for (let row = 0; row < sequences; row++) {
    sampler.read(firstSample + row, tokens);
    inputs.set(tokens.subarray(0, length), row * length);
    targets.set(tokens.subarray(1), row * length);
  }
  return { index, sequences, inputs, targets };
}

/**
 * The grain `index` of a global batch.
 * @param firstSample of the batch, in the sampler's order
 */
export function trainingGrain(
  sampler: TokenSource,
  { batch: { grainSequences } }: Pick<RunConfig, 'batch'>,
  firstSample: number,
  index: number,
): Grain {
  return readGrain(sampler, index, firstSample + index * grainSequences, grainSequences);
}
