/**
 * Retrieval tasks in the manner of RULER (Hsieh et al., arXiv 2404.06654), as text without the haystack: what is hidden where,
 * what is asked, and among which answers one is right.
 *
 * - niah, needle in a haystack: `needles` statements, one of which is asked for; it stands at a chosen depth.
 * - vt, variable tracking: chains of things each of which has the value of the one before; asked for are all that have
 *   the value of one chain.
 */

import { type RandomKey, randomKey, randomUniform } from '@sluice/core';
import {
  answerText,
  askKeys,
  askValue,
  drawWords,
  NEEDLE_KEYS,
  NEEDLE_VALUES,
  statement,
} from '@sluice/data';

export type LongContextTask = 'niah' | 'vt';

export interface TaskOptions {
  readonly task: LongContextTask;
  /** Statements in a haystack (niah). */
  readonly needles: number;
  /** Chains in a haystack (vt). */
  readonly chains: number;
  /** Links of a chain after its first statement (vt). */
  readonly hops: number;
  readonly seed: number;
}

/** A sentence that is hidden. */
export interface HiddenSentence {
  readonly text: string;
  /** Where it stands: 0 for the beginning of the haystack, 1 for its end. */
  readonly depth: number;
}

export interface TaskSample {
  readonly hidden: readonly HiddenSentence[];
  /** What is asked, with the beginning of the answer. */
  readonly question: string;
  readonly answer: string;
  /** The words that the answer consists of. */
  readonly answerWords: readonly string[];
  /** Answers to choose from, each once, the right one first. */
  readonly candidates: readonly string[];
}

/** Answers of niah to choose from, or more where more needles are hidden. */
const CANDIDATES = 16;

/**
 * Sample `index` of a task: the same at every length and depth.
 * @param depth of the needle that is asked for (niah)
 * @param isFree whether a word may be used, since it is not in the haystack's text
 * @returns undefined where too few words are free
 */
export function taskSample(
  options: TaskOptions,
  index: number,
  depth: number,
  isFree: (word: string) => boolean = () => true,
): TaskSample | undefined {
  const { task, needles, chains, hops, seed } = options;
  const key = (purpose: string) => randomKey(seed, task, index, purpose);
  const numKeys = task === 'niah' ? needles : chains * (hops + 1);
  const numValues = task === 'niah' ? Math.max(CANDIDATES, needles) : chains;
  const keys = drawFree(key('keys'), NEEDLE_KEYS, numKeys, isFree);
  const values = drawFree(key('values'), NEEDLE_VALUES, numValues, isFree);
  if (!keys || !values) return undefined;
  return task === 'niah'
    ? retrieval(keys, values, depth, key('places'))
    : tracking(keys, values, hops, key('places'));
}

function drawFree(
  key: RandomKey,
  words: readonly string[],
  count: number,
  isFree: (word: string) => boolean,
) {
  const free = drawWords(key, words, words.length).filter(isFree);
  return free.length < count ? undefined : free.slice(0, count);
}

/** The first of the keys is asked for; the values beyond the keys are in no statement. */
function retrieval(keys: string[], values: string[], depth: number, places: RandomKey): TaskSample {
  return {
    hidden: keys.map((key, i) => ({
      text: statement(key, values[i]!),
      depth: i === 0 ? depth : randomUniform(places, i),
    })),
    question: askValue(keys[0]!),
    answer: answerText([values[0]!]),
    answerWords: [values[0]!],
    candidates: values.map((value) => answerText([value])),
  };
}

/** The first of the values is asked for; to choose from are the chains. */
function tracking(keys: string[], values: string[], hops: number, places: RandomKey): TaskSample {
  const chains = values.map((_, i) => keys.slice(i * (hops + 1), (i + 1) * (hops + 1)));
  const hidden = chains.flatMap((chain, i) => {
    const depths = chain.map((_, link) => randomUniform(places, i * (hops + 1) + link));
    depths.sort((a, b) => a - b);
    return chain.map((key, link) => ({
      text: statement(key, link === 0 ? values[i]! : chain[link - 1]!),
      depth: depths[link]!,
    }));
  });
  return {
    hidden,
    question: askKeys(values[0]!),
    answer: answerText(chains[0]!),
    answerWords: chains[0]!,
    candidates: chains.map(answerText),
  };
}
