/** Cutting a text's tokens into sequences to be scored, so that each but the first is predicted exactly once. */

import type { Grain, TokenSource } from '@sluice/train';

/** The tokens of a text as consecutive sequences of `sequenceLength`; what is left over at the end is its own grain. */
export function textSource(tokens: readonly number[], sequenceLength: number): TokenSource {
  return {
    sequenceLength,
    numSequences: Math.floor((tokens.length - 1) / sequenceLength),
    read(index, target) {
      for (let t = 0; t < target.length; t++) target[t] = tokens[index * sequenceLength + t]!;
    },
  };
}

/** The last tokens of a text, fewer than a sequence; undefined when there are none to predict. */
export function textRemainder(tokens: readonly number[], sequenceLength: number): Grain | undefined {
  const begin = Math.floor((tokens.length - 1) / sequenceLength) * sequenceLength;
  const rest = tokens.slice(begin);
  if (rest.length < 2) return undefined;
  return {
    index: 0,
    sequences: 1,
    inputs: Int32Array.from(rest.slice(0, -1)),
    targets: Int32Array.from(rest.slice(1)),
  };
}
