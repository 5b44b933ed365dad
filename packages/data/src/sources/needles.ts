/**
 * Documents of retrieval tasks: statements, and questions with their answers, strewn among noise, each question anywhere
 * after what it asks for. A model that is trained on them can be asked by `sluice evaluate --task`.
 *
 * Every number is a pure function of the seed, the document and the place in it.
 */

import { type RandomKey, randomKey, randomUniform } from '@sluice/core';
import {
  ANSWER_END,
  answerText,
  askKeys,
  askValue,
  drawWords,
  NEEDLE_KEYS,
  NEEDLE_VALUES,
  noiseSentence,
  statement,
  unitsOf,
} from '../needles.ts';
import type { SourceOfKind } from '../recipe.ts';
import type { DocumentPart, TextSourceReader } from './source.ts';

type Task = SourceOfKind<'needles'>;

export function needlesSource(task: Task): TextSourceReader {
  return {
    label: `needles ${task.task}`,
    files: [],
    passedOver: [],
    async *documents() {
      for (let document = 0; document < task.documents; document++) yield makeDocument(task, document);
    },
  };
}

function makeDocument(task: Task, document: number): DocumentPart {
  const key = randomKey(task.seed, 'needles', document);
  const isTracking = task.task === 'vt' || (task.task === 'both' && randomUniform(key, 0) < 0.5);
  const groups = isTracking ? trackingGroups(task, document) : retrievalGroups(task, document);
  return { name: `${document}`, text: strew(groups, task.length, key), last: true };
}

/** Sentences of which each stands after those before it. */
type Group = readonly string[];

function retrievalGroups({ seed, needles, recalls }: Task, document: number): Group[] {
  const [keys, values] = drawPairs(seed, document, needles, needles);
  return keys.map((key, i) => {
    const value = values[i]!;
    const recall = `${askValue(key)}${answerText([value])}${ANSWER_END}`;
    return [statement(key, value), ...new Array<string>(recalls).fill(recall)];
  });
}

function trackingGroups({ seed, chains, hops }: Task, document: number): Group[] {
  const [keys, values] = drawPairs(seed, document, chains * (hops + 1), chains);
  return values.map((value, chain) => {
    const own = keys.slice(chain * (hops + 1), (chain + 1) * (hops + 1));
    return [
      statement(own[0]!, value),
      ...own.slice(1).map((key, i) => statement(key, own[i]!)),
      `${askKeys(value)}${answerText(own)}${ANSWER_END}`,
    ];
  });
}

function drawPairs(seed: number, document: number, keys: number, values: number): [string[], string[]] {
  return [
    drawWords(randomKey(seed, 'needles', document, 'keys'), NEEDLE_KEYS, keys),
    drawWords(randomKey(seed, 'needles', document, 'values'), NEEDLE_VALUES, values),
  ];
}

/** Puts the groups' sentences at places of chance among noise, and makes the whole so many words and marks long. */
function strew(groups: readonly Group[], length: number, key: RandomKey): string {
  let counter = 1;
  const place = () => randomUniform(key, counter++);
  const placed = groups.flatMap((group) => {
    const places = group.map(place).sort((a, b) => a - b);
    return group.map((text, i) => ({ text, place: places[i]! }));
  });
  let left = length - placed.reduce((sum, { text }) => sum + unitsOf(text).length, 0);
  const noise = randomKey(key.low, 'noise', key.high);
  for (let i = 0; left > 0; i++) {
    const units = unitsOf(noiseSentence(noise, i));
    // What does not fit is the end of a sentence, at the beginning of the document, as if it were cut out of a longer one.
    const isCut = units.length > left;
    placed.push({ text: units.slice(-left).join(''), place: isCut ? -1 : place() });
    left -= units.length;
  }
  return placed
    .sort((a, b) => a.place - b.place)
    .map(({ text }) => text)
    .join('');
}
