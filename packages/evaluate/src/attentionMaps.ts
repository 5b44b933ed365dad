/** Pictures of attention: who looks at whom, for chosen layers and heads of one sequence. */

import { documentBounds, forEachAttentionRow, type QueriesKeys } from '@sluice/engine';
import type { Decoder, ForwardObserver, TokenBatch } from '@sluice/model';

export interface AttentionMapChoice {
  /** Layers to show, from 0. */
  readonly layers: readonly number[];
  /** Heads to show, from 0; the mean over all heads when left out. */
  readonly heads?: readonly number[] | undefined;
}

export interface AttentionMap {
  readonly layer: number;
  /** Null for the mean over all heads. */
  readonly head: number | null;
  /** Tokens of the sequence. */
  readonly tokens: number;
  /** Rows and columns of the map: one for each token, or for each few neighbours of a long sequence. */
  readonly cells: number;
  /**
   * Row by row, from the first queries to the last: the share of their attention that goes to the tokens of each column,
   * the mean over the queries of the row.
   */
  readonly weights: Float32Array;
  /** For each row, the same of the first token alone, that of the query's document where these are kept apart. */
  readonly firstToken: Float32Array;
}

/** Most rows of a map. */
const MOST_CELLS = 128;

/** Layers that are shown where none are chosen: four, evenly from the first to the last, as in the paper's Figure 2. */
export function spreadLayers(numLayers: number): number[] {
  if (numLayers === 0) return [];
  const places = [0, 1 / 3, 2 / 3, 1].map((share) => Math.round(share * (numLayers - 1)));
  return [...new Set(places)];
}

/** @param batch one sequence */
export function attentionMaps(
  decoder: Decoder,
  batch: TokenBatch,
  { layers, heads }: AttentionMapChoice,
): AttentionMap[] {
  const maps: AttentionMap[] = [];
  const observer: ForwardObserver = {
    attention(layer, operands) {
      if (!layers.includes(layer)) return;
      const all = Array.from({ length: operands.layout.heads }, (_, head) => head);
      if (heads) {
        for (const head of heads) maps.push({ layer, head, ...pooledAttention(operands, [head]) });
      } else maps.push({ layer, head: null, ...pooledAttention(operands, all) });
    },
  };
  decoder.observe(batch, observer);
  return maps;
}

/** The mean over heads, with neighbouring tokens taken together where there are more than fit. */
function pooledAttention(
  operands: QueriesKeys,
  heads: readonly number[],
): Pick<AttentionMap, 'tokens' | 'cells' | 'weights' | 'firstToken'> {
  const tokens = operands.layout.sequence;
  const perCell = Math.ceil(tokens / MOST_CELLS);
  const cells = Math.ceil(tokens / perCell);
  const sums = new Float64Array(cells * cells);
  const firstSums = new Float64Array(cells);
  const starts = documentBounds(operands.layout).subarray(0, -1);
  for (const head of heads) {
    for (const [document, start] of starts.entries()) {
      forEachAttentionRow(operands, document, head, ({ query, weights }) => {
        const row = Math.floor((start + query) / perCell);
        firstSums[row]! += weights[0]!;
        for (let key = 0; key <= query; key++) {
          sums[row * cells + Math.floor((start + key) / perCell)]! += weights[key]!;
        }
      });
    }
  }
  const meanOf = (sum: number, row: number) =>
    sum / (heads.length * Math.min(perCell, tokens - row * perCell));
  return {
    tokens,
    cells,
    weights: Float32Array.from(sums, (sum, i) => meanOf(sum, Math.floor(i / cells))),
    firstToken: Float32Array.from(firstSums, meanOf),
  };
}
