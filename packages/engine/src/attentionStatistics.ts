/**
 * What the weights of causal attention look like, from queries and keys, in memory linear in the sequence.
 *
 * Shapes: B sequences of T tokens, N = B·T rows; H query heads, K key-value heads; D channels of a head. A sequence is one
 * document, unless its documents are kept apart.
 */

import { callNative, nativeCore } from './native.ts';
import { type AttentionLayout, documentArguments, documentBounds } from './ops/attentionLayout.ts';

/** Of the weights S of one head in one document: S[i, j] is how much query i attends to token j. */
export interface AttentionStatistics {
  /** Σ S[i, 0] over the queries i ≥ 1. */
  readonly firstToken: number;
  /** S[0, 0]: 1, but less where attention may go to no token. */
  readonly firstQuery: number;
  /** max q·k/√D over the tokens that queries see, before any cap. */
  readonly largestLogit: number;
  /** Σ over all queries i of −Σ_j S[i, j] ln S[i, j], nats. A place that is no token counts as one more j. */
  readonly entropy: number;
}

/** Queries and keys of a pass, normalised and rotated, row after row. */
export interface QueriesKeys {
  /** [N, H·D] */
  readonly q: Float32Array;
  /** [N, K·D] */
  readonly k: Float32Array;
  /** [H]: the score of a place for attention to go that is no token; undefined where there is none. */
  readonly sinks?: Float32Array | undefined;
  readonly layout: Pick<
    AttentionLayout,
    'batch' | 'sequence' | 'documents' | 'heads' | 'keyValueHeads' | 'headDim' | 'scoreCap' | 'window'
  >;
}

const NUMBERS = 4;

/**
 * For each document, for each head. The C++ core computes in single precision, plain JavaScript (which serves where there is no
 * core, or scores are capped) in double.
 */
export function attentionStatistics(operands: QueriesKeys): AttentionStatistics[] {
  const { q, k, sinks, layout } = operands;
  const { heads, keyValueHeads, headDim, window } = layout;
  const [bounds, documents] = documentArguments(layout);
  if (!nativeCore() || layout.scoreCap !== undefined) {
    return Array.from({ length: documents * heads }, (_, i) =>
      statisticsOfHead(operands, Math.floor(i / heads), i % heads),
    );
  }
  const numbers = new Float64Array(documents * heads * NUMBERS);
  const arrays = [q, k, sinks ?? null, numbers];
  callNative('attentionStatistics', ...arrays, bounds, documents, heads, keyValueHeads, headDim, window ?? 0);
  return Array.from({ length: documents * heads }, (_, i) => {
    const [firstToken, firstQuery, largestLogit, entropy] = numbers.subarray(i * NUMBERS) as unknown as [
      number,
      number,
      number,
      number,
    ];
    return { firstToken, firstQuery, largestLogit, entropy };
  });
}

/** The definition of `attentionStatistics`. */
export function statisticsOfHead(operands: QueriesKeys, document: number, head: number): AttentionStatistics {
  const totals = { firstToken: 0, firstQuery: 0, largestLogit: Number.NEGATIVE_INFINITY, entropy: 0 };
  forEachAttentionRow(operands, document, head, ({ query, weights, sink, logits }) => {
    if (query === 0) totals.firstQuery = weights[0]!;
    else totals.firstToken += weights[0]!;
    for (const logit of logits) totals.largestLogit = Math.max(totals.largestLogit, logit);
    totals.entropy += information(sink);
    for (const weight of weights) totals.entropy += information(weight);
  });
  return totals;
}

function information(weight: number): number {
  return weight === 0 ? 0 : -weight * Math.log(weight);
}

/**
 * One query's attention, over the tokens 0 to `query` of its document, of which those before its window have no weight. The arrays
 * are used again for the next one.
 */
export interface AttentionRow {
  readonly query: number;
  /** q·k/√D, before any cap; −∞ where the query does not see the token. */
  readonly logits: Float64Array;
  readonly weights: Float64Array;
  /** The weight of the place that is no token, 0 where there is none. */
  readonly sink: number;
}

/** Computes the attention of one head in one document query by query, in double precision. */
export function forEachAttentionRow(
  { q: queries, k: keys, sinks, layout }: QueriesKeys,
  document: number,
  head: number,
  visit: (row: AttentionRow) => void,
): void {
  const { heads, keyValueHeads, headDim, window = Number.POSITIVE_INFINITY } = layout;
  const bounds = documentBounds(layout);
  const begin = bounds[document]!;
  const length = bounds[document + 1]! - begin;
  const keyHead = Math.floor((head * keyValueHeads) / heads);
  const scale = 1 / Math.sqrt(headDim);
  const capped = cappedBy(layout.scoreCap);
  const sinkScore = sinks ? capped(sinks[head]!) : Number.NEGATIVE_INFINITY;
  const allLogits = new Float64Array(length);
  const allWeights = new Float64Array(length);
  for (let query = 0; query < length; query++) {
    const logits = allLogits.subarray(0, query + 1);
    const weights = allWeights.subarray(0, query + 1);
    const from = ((begin + query) * heads + head) * headDim;
    const first = Math.max(0, query + 1 - window);
    logits.fill(Number.NEGATIVE_INFINITY, 0, first);
    weights.fill(0, 0, first);
    let highest = sinkScore;
    for (let key = first; key <= query; key++) {
      const to = ((begin + key) * keyValueHeads + keyHead) * headDim;
      let product = 0;
      for (let d = 0; d < headDim; d++) product += queries[from + d]! * keys[to + d]!;
      logits[key] = product * scale;
      weights[key] = capped(logits[key]!);
      highest = Math.max(highest, weights[key]!);
    }
    const sink = Math.exp(sinkScore - highest);
    let total = sink;
    for (let key = first; key <= query; key++) {
      weights[key] = Math.exp(weights[key]! - highest);
      total += weights[key]!;
    }
    for (let key = first; key <= query; key++) weights[key]! /= total;
    visit({ query, logits, weights, sink: sink / total });
  }
}

function cappedBy(cap: number | undefined): (score: number) => number {
  return cap === undefined ? (score) => score : (score) => cap * Math.tanh(score / cap);
}
