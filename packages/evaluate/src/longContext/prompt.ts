/** Putting a task's sentences into a haystack so that the whole has an exact number of tokens, whatever the tokenizer. */

import { SluiceError } from '@sluice/core';
import type { Tokenizer } from '@sluice/data';
import type { TaskSample } from './tasks.ts';

/** A sample as a model reads it. */
export interface Prompt {
  readonly tokens: readonly number[];
  readonly answer: readonly number[];
  /** The tokens of `TaskSample.candidates`. */
  readonly candidates: readonly (readonly number[])[];
}

/** Ids of a text that stands after another one. */
export type EncodeNext = (text: string) => readonly number[];

/** Some tokenizers write a text's beginning in their own way; so it is encoded behind this. */
const BEFORE = '.';

/** Remembers what it has encoded: the same sentences come again and again. */
export function nextEncoder(tokenizer: Tokenizer): EncodeNext {
  const before = tokenizer.encodeOrdinary(BEFORE);
  const known = new Map<string, readonly number[]>();
  return (text) => {
    let ids = known.get(text);
    if (!ids) {
      const whole = tokenizer.encodeOrdinary(BEFORE + text);
      const isApart = before.every((id, i) => whole[i] === id);
      ids = isApart ? whole.slice(before.length) : tokenizer.encodeOrdinary(text);
      known.set(text, ids);
    }
    return ids;
  };
}

/**
 * The sentences that are enough for a haystack of so many tokens, perhaps more than are needed.
 * @param sentences without end
 */
export function enoughSentences(sentences: Iterator<string>, encode: EncodeNext, tokens: number): string[] {
  const taken: string[] = [];
  for (let sum = 0; sum < tokens; ) {
    const text = sentences.next().value as string;
    taken.push(text);
    sum += encode(text).length;
  }
  return taken;
}

/**
 * A prompt that has, with its answer, exactly `length` tokens. The hidden sentences stand between sentences of the haystack,
 * whose first one is cut as a text is that begins anywhere.
 * @param start tokens that stand before every text
 * @param haystack sentences of at least `length` tokens
 * @throws SLUICE_E_TASK_LENGTH where the task alone is longer; SLUICE_E_TOKENIZER_TEXT where the tokenizer does not tell
 *   answers apart
 */
export function buildPrompt(
  sample: TaskSample,
  haystack: readonly string[],
  encode: EncodeNext,
  { start, length }: { readonly start: readonly number[]; readonly length: number },
): Prompt {
  const question = encode(sample.question);
  const answer = encode(sample.answer);
  const hidden = sample.hidden.map(({ text, depth }) => ({ ids: encode(text), depth }));
  const needed =
    start.length + question.length + answer.length + hidden.reduce((sum, { ids }) => sum + ids.length, 0);
  if (needed > length) {
    throw new SluiceError(
      'SLUICE_E_TASK_LENGTH',
      `What is hidden, the question and the answer are ${needed} tokens by themselves, more than the length of ${length}.`,
      { details: { needed, length } },
    );
  }
  const candidates = sample.candidates.map(encode);
  if (new Set(candidates.map(String)).size < candidates.length) {
    throw new SluiceError(
      'SLUICE_E_TOKENIZER_TEXT',
      `The model's tokenizer writes two of the answers to choose from alike:${sample.candidates.join('')}.`,
      { details: { candidates: sample.candidates } },
    );
  }
  const filled = fill(haystack, encode, length - needed);
  const tokens = [...start, ...insert(filled, hidden, length - needed), ...question];
  return { tokens, answer, candidates };
}

/** The haystack's sentences, of exactly `room` tokens in all; the first has its end alone. */
function fill(haystack: readonly string[], encode: EncodeNext, room: number): (readonly number[])[] {
  const filled: (readonly number[])[] = [];
  let left = room;
  for (let i = 0; left > 0; i++) {
    const ids = encode(haystack[i]!);
    const taken = ids.slice(-left);
    if (taken.length < ids.length) filled.unshift(taken);
    else filled.push(taken);
    left -= taken.length;
  }
  return filled;
}

interface Hidden {
  readonly ids: readonly number[];
  readonly depth: number;
}

/** Each hidden sentence goes where a sentence of the haystack ends, next to its depth; never before the cut one. */
function insert(filled: readonly (readonly number[])[], hidden: readonly Hidden[], room: number): number[] {
  const ends: number[] = [];
  let sum = 0;
  for (const ids of filled) {
    sum += ids.length;
    ends.push(sum);
  }
  const nearest = (depth: number) => {
    const distanceOf = (i: number) => Math.abs(ends[i]! - depth * room);
    return ends.reduce((best, _, i) => (distanceOf(i) < distanceOf(best) ? i : best), 0);
  };
  const placed = [...hidden]
    .sort((a, b) => a.depth - b.depth)
    .map((one) => ({ ...one, at: nearest(one.depth) }));
  const hiddenAt = (i: number) => placed.filter(({ at }) => at === i).flatMap(({ ids }) => ids);
  if (filled.length === 0) return hiddenAt(0);
  return filled.flatMap((ids, i) => [...ids, ...hiddenAt(i)]);
}
