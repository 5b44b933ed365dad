/** Which sequences are passed forward without a gradient: the first of a split, or of each corpus's split, in grains. */

import { type ValidationPart, validationShares } from '@sluice/data';
import type { TokenSource } from './tokenSource.ts';

/** A split, or those of the corpora of a mixture. */
export type ForwardSource = TokenSource | readonly ValidationPart[];

/** Consecutive sequences of one corpus that go through the model in one pass. */
export interface GrainPlace {
  /** Number of the grain. */
  readonly index: number;
  /** Number of the corpus among those of the source. */
  readonly part: number;
  readonly source: TokenSource;
  /** Number of its first sequence. */
  readonly first: number;
  readonly sequences: number;
}

/** @param sequences how many, as far as there are so many; a mixture's corpora share them by their weights */
export function forwardGrains(
  source: ForwardSource,
  sequences: number,
  grainSequences: number,
): GrainPlace[] {
  const shares = isMixture(source)
    ? validationShares(source, sequences)
    : [Math.min(sequences, source.numSequences)];
  const sources = isMixture(source) ? source.map((part) => part.source) : [source];
  const places = shares.flatMap((total, part) =>
    // The last grain has what is left.
    Array.from({ length: Math.ceil(total / grainSequences) }, (_, i) => {
      const first = i * grainSequences;
      return { part, source: sources[part]!, first, sequences: Math.min(grainSequences, total - first) };
    }),
  );
  return places.map((place, index) => ({ index, ...place }));
}

function isMixture(source: ForwardSource): source is readonly ValidationPart[] {
  return Array.isArray(source);
}

/** Tokens of all sequences of a source are as many. */
export function sequenceLengthOf(source: ForwardSource): number {
  return isMixture(source) ? source[0]!.source.sequenceLength : source.sequenceLength;
}

export function sequencesOf(grains: readonly GrainPlace[]): number {
  return grains.reduce((sum, { sequences }) => sum + sequences, 0);
}

/** Mean loss of one corpus, nats a token. */
export interface CorpusLoss {
  readonly name: string;
  readonly loss: number;
  readonly tokens: number;
}

/**
 * Mean losses from the sums of the grains, each corpus's in the order of its grains. That of a mixture is the mean of its
 * corpora's by their weights, so that it does not depend on how many sequences each of them has.
 * @param sums of each grain's cross-entropy, nats
 */
export function meanLosses(
  source: ForwardSource,
  grains: readonly GrainPlace[],
  sums: ArrayLike<number>,
): { readonly loss: number; readonly tokens: number; readonly corpora?: readonly CorpusLoss[] } {
  const length = sequenceLengthOf(source);
  const meanOf = (own: readonly GrainPlace[]) => {
    const tokens = sequencesOf(own) * length;
    return { loss: own.reduce((sum, { index }) => sum + sums[index]!, 0) / tokens, tokens };
  };
  if (!isMixture(source)) return meanOf(grains);
  const corpora = source.map(({ name }, part) => ({
    name,
    ...meanOf(grains.filter((one) => one.part === part)),
  }));
  return { loss: weightedMean(source, corpora), tokens: sequencesOf(grains) * length, corpora };
}

/** The mean of corpora's losses by their weights, or of all alike where none has any. */
export function weightedMean(
  parts: readonly Pick<ValidationPart, 'weight'>[],
  losses: readonly { readonly loss: number }[],
): number {
  const hasWeight = parts.some(({ weight }) => weight > 0);
  const weights = parts.map(({ weight }) => (hasWeight ? weight : 1));
  const sum = losses.reduce((sum, { loss }, i) => sum + weights[i]! * loss, 0);
  return sum / weights.reduce((a, b) => a + b, 0);
}
