/** Cutting a text's tokens into sequences, so that each but the first is predicted exactly once; and these into passes. */

import {
  type ForwardSource,
  forwardGrains,
  type Grain,
  readGrain,
  sequenceLengthOf,
  type TokenSource,
} from '@sluice/train';

/** Sequences that go through a model in one pass: so many, or fewer long ones. */
const SEQUENCES_AT_ONCE = 4;
const TOKENS_AT_ONCE = 16384;

/** The first `total` sequences of a source, as many at once as a pass takes. */
export function* grainsOf(source: ForwardSource, total: number): Generator<Grain> {
  const fitting = Math.floor(TOKENS_AT_ONCE / sequenceLengthOf(source));
  const most = Math.max(1, Math.min(SEQUENCES_AT_ONCE, fitting));
  for (const { source: own, first, sequences } of forwardGrains(source, total, most)) {
    yield readGrain(own, 0, first, sequences);
  }
}

/** A text in sequences. */
export interface CutText {
  readonly tokens: readonly number[];
  readonly sequenceLength: number;
  /** Whether the text's first token is put before each sequence, as a beginning-of-text token. */
  readonly isBegun: boolean;
}

/** The tokens of a text as consecutive sequences; what is left over at the end is its own grain. */
export function textSource(text: CutText): TokenSource {
  const { tokens, sequenceLength, isBegun } = text;
  return {
    sequenceLength,
    numSequences: Math.floor((tokens.length - 1) / sequenceLength),
    read(index, target) {
      const begin = index * sequenceLength;
      for (let t = 0; t < target.length; t++) target[t] = tokens[begin + t]!;
      if (isBegun) target[0] = tokens[0]!;
    },
  };
}

/** The last tokens of a text, fewer than a sequence; undefined when there are none to predict. */
export function textRemainder({ tokens, sequenceLength, isBegun }: CutText): Grain | undefined {
  const begin = Math.floor((tokens.length - 1) / sequenceLength) * sequenceLength;
  const rest = tokens.slice(begin);
  if (rest.length < 2) return undefined;
  const inputs = Int32Array.from(rest.slice(0, -1));
  if (isBegun) inputs[0] = tokens[0]!;
  return { index: 0, sequences: 1, inputs, targets: Int32Array.from(rest.slice(1)) };
}

/** The parts of a sequence between marks, such as end-of-text tokens; none is empty. */
export function partsBetween(tokens: Int32Array, marks: ReadonlySet<number>): Int32Array[] {
  const parts: Int32Array[] = [];
  let begin = 0;
  for (let end = 0; end <= tokens.length; end++) {
    if (end < tokens.length && !marks.has(tokens[end]!)) continue;
    if (end > begin) parts.push(tokens.subarray(begin, end));
    begin = end + 1;
  }
  return parts;
}
