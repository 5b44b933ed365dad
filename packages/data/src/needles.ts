/**
 * The sentences of retrieval tasks, in the manner of RULER (Hsieh et al., arXiv 2404.06654): statements that are hidden in
 * noise, and questions for what they state. What is made to train on (`sources/needles.ts`) and what models are asked
 * (`@sluice/evaluate`) share them.
 *
 * Every sentence begins with a space, so that sentences can stand in any order, and byte-level BPE makes the same tokens of
 * a word wherever it stands. Words are short, in lower case, and none begins another, so that no answer is part of another.
 */

import { type RandomKey, randomUniform } from '@sluice/core';
import { permute } from './order.ts';

/** What statements are about. */
export const NEEDLE_KEYS: readonly string[] = [
  'ant bat bee boar bull calf carp clam colt crab crow deer dog dove duck eel',
  'elk emu fawn flea fox frog gnat goat gull hare hawk hen ibis jay kite lamb',
  'lark lynx mink mole moth mule newt owl ox pony puma quail ram rat seal shark',
  'skunk slug snail stork swan tern toad trout vole wasp whale wolf wren yak zebra lion',
].flatMap((row) => row.split(' '));

/** What they say of it. */
export const NEEDLE_VALUES: readonly string[] = [
  'amber ash beige birch black blue brass brick bronze brown cedar chalk clay coal copper coral',
  'cork cotton cream denim ebony flint glass gold green grey hazel honey horn iron ivory jade',
  'khaki lace leaf lemon lilac lime linen mint moss nickel nylon oak olive opal paper peach',
  'pearl pine plum red ruby rust satin silk silver slate steel straw teal topaz violet wool',
].flatMap((row) => row.split(' '));

/** What they are hidden in. None holds a key or a value. */
export const NOISE_SENTENCES: readonly string[] = [
  ' The road is long.',
  ' We go home at night.',
  ' It was cold in the hills.',
  ' The sun is up again.',
  ' They sat down to eat.',
  ' Here we go there and back.',
  ' The day was warm.',
  ' No one was at home.',
  ' Then it was time to go.',
  ' The hills are far.',
  ' We sat in the sun.',
  ' It is night again.',
];

/** That something has a value, or that of another thing: a variable that is assigned another one. */
export const statement = (key: string, value: string): string => ` Note ${key} ${value}.`;

/** A question; an answer of `answerText` and `ANSWER_END` go on. The statement's own words come again, so that a model that only continues texts can answer. */
export const askValue = (key: string): string => ` Recall ${key}`;

/** The same, for all that have a value, directly or through others. */
export const askKeys = (value: string): string => ` Which are ${value}:`;

export const answerText = (words: readonly string[]): string => ` ${words.join(', ')}`;

export const ANSWER_END = '.';

/** Some of the words, each at most once, in an order of chance. */
export function drawWords(key: RandomKey, words: readonly string[], count: number): string[] {
  return Array.from({ length: count }, (_, i) => words[permute(key, words.length, i)]!);
}

/** The noise sentence of number `index` in a stream. */
export function noiseSentence(key: RandomKey, index: number): string {
  return NOISE_SENTENCES[Math.floor(randomUniform(key, index) * NOISE_SENTENCES.length)]!;
}

/** Words and punctuation marks, each a token where the vocabulary is large enough. */
export const unitsOf = (text: string): string[] => text.match(/ ?\w+|[.,:]/g) ?? [];

/** What a document holds besides noise. */
export interface NeedleCounts {
  readonly task: 'niah' | 'vt' | 'both';
  /** Statements. */
  readonly needles: number;
  /** Questions for each of them. */
  readonly recalls: number;
  /** Chains, each with a question. */
  readonly chains: number;
  /** Links of a chain after its first statement. */
  readonly hops: number;
}

/** Words and marks of a document without its noise; the larger number where there are two kinds of documents. */
export function needlesUnits({ task, needles, recalls, chains, hops }: NeedleCounts): number {
  const count = (...texts: readonly string[]) => unitsOf(texts.join('')).length;
  const told = statement('a', 'b');
  const answer = (words: number) => answerText(new Array<string>(words).fill('a')) + ANSWER_END;
  const niah = needles * (count(told) + recalls * count(askValue('a'), answer(1)));
  const vt = chains * (count(told, askKeys('b'), answer(hops + 1)) + hops * count(told));
  if (task === 'both') return Math.max(niah, vt);
  return task === 'niah' ? niah : vt;
}
