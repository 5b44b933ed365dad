/**
 * The order of a mixture: which corpus each sample of a run is of, and the how-manieth of that corpus, as a pure function of the
 * seed and the sample's number.
 *
 * Samples go by blocks. Within a block each corpus has a fixed number of places in proportion to its weight, which a keyed
 * permutation spreads over the block (as in Levanter's `MixtureDataset`). What a corpus has given before a block is then a
 * product, so that any sample is found from its block alone, and shares are exact from block to block. Within a block, too, a
 * corpus gives its samples in its own order: one that is smaller than its part of a block would otherwise begin its next epoch
 * before all of this one had come.
 *
 * Where weights change in the middle of a block, what comes before in it stays where it was: the block is left, and what each
 * corpus has given of it is counted. So what is read up to some sample depends on no weights that come later.
 */

import { isDeepStrictEqual } from 'node:util';
import { invariant, randomKey } from '@sluice/core';
import { permute } from './order.ts';

/** A stretch of samples that are mixed alike. */
export interface MixturePhase {
  /** Number of its first sample; 0 for the first phase. */
  readonly firstSample: number;
  /** Of each corpus, in any unit; none negative, and not all zero. */
  readonly weights: readonly number[];
}

export interface MixturePlace {
  /** Number of the corpus in the mixture. */
  readonly corpus: number;
  /** Number of the sample in the corpus's own order. */
  readonly index: number;
}

/** Samples in a block, unless a corpus needs a larger one to have a place in it. */
export const BLOCK_SAMPLES = 1024;

/** A weight smaller than this share of all could not be mixed in within a reasonable time. */
export const LEAST_SHARE = 1e-6;

/**
 * Whole numbers in proportion to weights that add up to `total`: what is left after rounding down goes to the largest remainders,
 * of equal ones to the first.
 */
export function apportion(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  const exact = weights.map((weight) => (total * weight) / sum);
  const shares = exact.map(Math.floor);
  const left = total - shares.reduce((a, b) => a + b, 0);
  const byRemainder = [...exact.keys()].sort(
    (a, b) => exact[b]! - shares[b]! - (exact[a]! - shares[a]!) || a - b,
  );
  for (const corpus of byRemainder.slice(0, left)) shares[corpus]!++;
  return shares;
}

/** A phase with what follows from it. */
interface PlannedPhase {
  readonly number: number;
  readonly firstSample: number;
  /** Samples; infinite for the last phase. */
  readonly length: number;
  readonly weights: readonly number[];
  readonly blockSamples: number;
  /** Places of each corpus in a whole block. */
  readonly places: readonly number[];
  /** Samples that each corpus has given before the phase. */
  readonly given: readonly number[];
}

/** Where the samples of a block come from, by their places in it. */
interface Block {
  readonly begin: number;
  readonly corpora: Uint32Array;
  readonly indices: Float64Array;
}

export class MixtureOrder {
  readonly #seed: number;
  readonly #phases: readonly PlannedPhase[];
  /** The one that was asked for last: samples are read one after the other. */
  #block: Block | undefined;

  /** @param phases in their order, the first from sample 0 on */
  constructor(phases: readonly MixturePhase[], seed: number) {
    this.#seed = seed;
    const planned: PlannedPhase[] = [];
    let given: readonly number[] = phases[0]!.weights.map(() => 0);
    for (const [number, { firstSample, weights }] of phases.entries()) {
      const length = (phases[number + 1]?.firstSample ?? Number.POSITIVE_INFINITY) - firstSample;
      const blockSamples = blockFor(weights);
      const places = apportion(blockSamples, weights);
      const phase = { number, firstSample, length, weights, blockSamples, places, given };
      planned.push(phase);
      if (Number.isFinite(length)) given = this.#givenBy(phase);
    }
    this.#phases = planned;
  }

  /** Where a sample comes from. */
  locate(sample: number): MixturePlace {
    invariant(Number.isSafeInteger(sample) && sample >= 0, `sample index ${sample}`);
    const phase = this.#phases.findLast(({ firstSample }) => firstSample <= sample)!;
    const number = Math.floor((sample - phase.firstSample) / phase.blockSamples);
    const begin = phase.firstSample + number * phase.blockSamples;
    if (this.#block?.begin !== begin) this.#block = this.#spread(phase, number, begin);
    const { corpora, indices } = this.#block;
    return { corpus: corpora[sample - begin]!, index: indices[sample - begin]! };
  }

  /** Spreads the places of the corpora over a block. */
  #spread(
    { number: phase, blockSamples, places, given }: PlannedPhase,
    number: number,
    begin: number,
  ): Block {
    const dealt = Uint32Array.from(places.flatMap((count, corpus) => Array<number>(count).fill(corpus)));
    const key = randomKey(this.#seed, 'mixture', phase, number);
    const corpora = new Uint32Array(blockSamples).map((_, i) => dealt[permute(key, blockSamples, i)]!);
    const next = given.map((before, corpus) => before + number * places[corpus]!);
    return { begin, corpora, indices: Float64Array.from(corpora, (corpus) => next[corpus]!++) };
  }

  /** Samples that each corpus has given up to the end of a phase, which may be within a block. */
  #givenBy(phase: PlannedPhase): number[] {
    const { firstSample, length, blockSamples, places, given } = phase;
    const blocks = Math.floor(length / blockSamples);
    const counts = given.map((before, corpus) => before + blocks * places[corpus]!);
    const { corpora } = this.#spread(phase, blocks, firstSample + blocks * blockSamples);
    for (const corpus of corpora.subarray(0, length % blockSamples)) counts[corpus]!++;
    return counts;
  }
}

/**
 * The first sample that two lists of phases may find at different places.
 * @returns infinity where they mix alike
 */
export function firstDifference(one: readonly MixturePhase[], other: readonly MixturePhase[]): number {
  for (let i = 0; ; i++) {
    const [a, b] = [one[i], other[i]];
    if (!a && !b) return Number.POSITIVE_INFINITY;
    if (isDeepStrictEqual(a, b)) continue;
    return Math.min(a?.firstSample ?? Number.POSITIVE_INFINITY, b?.firstSample ?? Number.POSITIVE_INFINITY);
  }
}

/** A block in which every corpus of any weight has a place. */
function blockFor(weights: readonly number[]): number {
  let samples = BLOCK_SAMPLES;
  const hasAll = () => apportion(samples, weights).every((places, i) => places > 0 || weights[i] === 0);
  while (!hasAll()) samples *= 2;
  return samples;
}
