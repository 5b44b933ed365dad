/**
 * The global batch as a fixed list of grains, cut into lanes, shared out among workers (design §3). What a grain holds
 * depends only on the step and its number, never on who computes it.
 */

import type { DocumentMarks } from '@sluice/data';
import { type BatchSettings, samplesBefore, sequencesAt } from './batchSizes.ts';
import type { RunConfig } from './config.ts';
import type { StepRequest } from './protocol.ts';
import type { TokenSource } from './tokenSource.ts';

/** The tokens of one grain: `sequences` rows of T tokens, and for each the token that follows. */
export interface Grain {
  /** Number within the global batch. */
  readonly index: number;
  readonly sequences: number;
  readonly inputs: Int32Array;
  readonly targets: Int32Array;
  /** Where documents are kept apart, the first row of each; every sequence begins one. */
  readonly documents?: Int32Array | undefined;
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
  const marks = sampler.documentMarks;
  return { index, sequences, inputs, targets, documents: marks && documentStarts(inputs, length, marks) };
}

/** The rows at which a document begins: the first of each sequence, and those that come after the end of another. */
function documentStarts(inputs: Int32Array, length: number, { begin, end }: DocumentMarks): Int32Array {
  const starts: number[] = [];
  for (let row = 0; row < inputs.length; row++) {
    // One token may both begin and end documents; it begins one only where another has ended.
    const follows = inputs[row - 1] === end && (begin === undefined || inputs[row] === begin);
    if (row % length === 0 || follows) starts.push(row);
  }
  return Int32Array.from(starts);
}

/** Index of the first sample of a step, in the order of the data. */
export function firstSampleOfRequest(
  { step, firstSample }: Pick<StepRequest, 'step' | 'firstSample'>,
  config: BatchSettings,
): number {
  return firstSample ?? samplesBefore(config, step);
}

/** What each corpus of a mixture has of a batch's tokens, by its name; nothing where there is one corpus. */
export function corpusShares(
  source: TokenSource,
  firstSample: number,
  sequences: number,
): { corpusShares?: Record<string, number> } {
  const { corpora } = source;
  if (!corpora) return {};
  const counts = corpora.map(() => 0);
  for (let i = 0; i < sequences; i++) counts[source.corpusOf!(firstSample + i)]!++;
  return { corpusShares: Object.fromEntries(corpora.map((name, i) => [name, counts[i]! / sequences])) };
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
