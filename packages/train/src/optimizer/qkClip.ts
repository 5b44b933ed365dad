/**
 * QK-clip (Kimi K2, arXiv 2507.20534): after an update, heads whose largest attention logit in the step's batch was above a
 * threshold τ get smaller query and key weights, so that this logit would have been τ. Logits are proportional to both.
 *
 * A head h needs the factor γ_h = min(1, τ/largest logit). With a key head of its own, queries and keys take √γ each. Where query
 * heads share keys, the keys take the root of what all of them need, the largest γ of the group, and each query head the rest: a
 * head that was below the threshold keeps its logits, as K2 leaves the keys alone that its heads share.
 */

import { type HeadRows, headRows, layerModels, type ModelConfig, mostAttentionHeads } from '@sluice/model';
import { type OptimizedPiece, scaleRows } from './pieces.ts';

/** For each layer, the factors on the rows of each head. */
export interface HeadFactors {
  /** [H] */
  readonly query: Float64Array;
  /** [K] */
  readonly key: Float64Array;
}

export class QkClip {
  readonly #threshold: number;
  readonly #model: ModelConfig;
  readonly #rows: ReadonlyMap<string, HeadRows>;

  constructor(threshold: number, model: ModelConfig) {
    this.#threshold = threshold;
    this.#model = model;
    this.#rows = headRows(model);
  }

  /**
   * Scales what a worker owns of the projections.
   * @param largest for each layer and head [L·H], the largest logit in the whole batch; H of the layer with the most heads
   */
  apply(pieces: Iterable<OptimizedPiece>, largest: Float64Array): void {
    const most = mostAttentionHeads(this.#model);
    const factors = layerModels(this.#model).map(({ numAttentionHeads, numKeyValueHeads }, layer) =>
      headFactors(
        largest.subarray(layer * most, layer * most + numAttentionHeads),
        numKeyValueHeads,
        this.#threshold,
      ),
    );
    for (const piece of pieces) this.#scale(piece, factors);
  }

  /** How many of these heads are above the threshold. */
  countClipped(largest: Float64Array): number {
    return largest.reduce((count, logit) => count + (logit > this.#threshold ? 1 : 0), 0);
  }

  /** The factor of each row's head; undefined where no row of the piece's tensor is scaled. */
  #factorsOf(
    { tensor }: OptimizedPiece,
    layers: readonly HeadFactors[],
  ): ((row: number) => number) | undefined {
    const rows = this.#rows.get(tensor.name);
    const ofLayer = rows && layers[rows.layer]!;
    const factors = ofLayer?.[rows!.projection];
    if (!factors?.some((factor) => factor !== 1)) return undefined;
    return (row) => {
      const head = rows!.heads[row]!;
      if (head < 0) return 1;
      // Where the key is that of all heads, the queries take its part too.
      return factors[head]! * (rows!.meetsSharedKey?.[row] ? ofLayer!.key[head]! : 1);
    };
  }

  #scale(piece: OptimizedPiece, layers: readonly HeadFactors[]): void {
    const factorOf = this.#factorsOf(piece, layers);
    if (factorOf) scaleRows(piece, factorOf);
  }
}

/** @param largest of each query head [H] of a layer */
export function headFactors(largest: Float64Array, numKeyValueHeads: number, threshold: number): HeadFactors {
  const needed = largest.map((logit) => (logit > threshold ? threshold / logit : 1));
  const group = largest.length / numKeyValueHeads;
  const key = Float64Array.from({ length: numKeyValueHeads }, (_, head) =>
    Math.sqrt(Math.max(...needed.subarray(head * group, (head + 1) * group))),
  );
  return { key, query: needed.map((factor, head) => factor / key[Math.floor(head / group)]!) };
}
