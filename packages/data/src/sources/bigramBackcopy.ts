/**
 * The Bigram-Backcopy task (Guo et al., "Active-dormant attention heads", arXiv 2410.13835, §2): tokens follow a fixed bigram
 * table, but after a trigger the token before it comes again. To predict it, a head must look one token back from a trigger,
 * and nowhere from any other token: what models do then with attention that has to go somewhere shows within minutes.
 *
 * Symbols are printable ASCII characters, so that byte-level BPE without merges makes a token of each. Every number is a pure
 * function of the seed, the document and the place in it.
 */

import { elementary, fillNormal, randomKey, randomUniform } from '@sluice/core';
import type { SourceOfKind } from '../recipe.ts';
import type { DocumentPart, TextSourceReader } from './source.ts';

type Task = SourceOfKind<'bigram-backcopy'>;

/** The character of symbol 0; the others follow it. */
const FIRST_CHARACTER = '!'.charCodeAt(0);

export function bigramBackcopySource(task: Task): TextSourceReader {
  return {
    label: `bigram-backcopy ${task.symbols}/${task.triggers}`,
    files: [],
    passedOver: [],
    async *documents() {
      const table = cumulativeTable(task);
      for (let document = 0; document < task.documents; document++) yield makeDocument(task, table, document);
    },
  };
}

/** [S, S], row by row: for each symbol, the probabilities of those that may follow, added up. softmax(sharpness · normal numbers). */
function cumulativeTable({ symbols, sharpness, seed }: Task): Float64Array {
  const scores = new Float32Array(symbols * symbols);
  fillNormal(randomKey(seed, 'bigram-backcopy', 'table'), scores, sharpness);
  const table = Float64Array.from(scores, elementary.exp);
  for (let row = 0; row < symbols; row++) {
    const weights = table.subarray(row * symbols, (row + 1) * symbols);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    let sum = 0;
    for (let i = 0; i < symbols; i++) {
      sum += weights[i]! / total;
      weights[i] = sum;
    }
  }
  return table;
}

function makeDocument(task: Task, table: Float64Array, document: number): DocumentPart {
  const { symbols, triggers, length } = task;
  const key = randomKey(task.seed, 'bigram-backcopy', document);
  const sequence = new Uint8Array(length);
  sequence[0] = Math.floor(randomUniform(key, 0) * symbols);
  for (let t = 1; t < length; t++) {
    const last = sequence[t - 1]!;
    const isTrigger = last < triggers && t > 1;
    sequence[t] = isTrigger ? sequence[t - 2]! : draw(table, last * symbols, symbols, randomUniform(key, t));
  }
  const text = Buffer.from(sequence.map((symbol) => FIRST_CHARACTER + symbol)).toString('latin1');
  return { name: `${document}`, text, last: true };
}

/** The first of the symbols from `begin` on whose cumulative probability is above a number in [0, 1), by bisection. */
function draw(cumulative: Float64Array, begin: number, symbols: number, lot: number): number {
  let low = 0;
  let high = symbols - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lot < cumulative[begin + middle]!) high = middle;
    else low = middle + 1;
  }
  return low;
}
