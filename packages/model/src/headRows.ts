/** Which head each row of the query and key projections is of. */

import type { ModelConfig } from './config.ts';
import { projectionCopies } from './controls/index.ts';
import { LATENT_NAMES, type LatentSizes, latentWidths } from './latentAttention.ts';
import { type LayerModel, layerModels } from './layers.ts';
import { activeMixer } from './mixers/index.ts';
import { projectionWidths } from './parameters.ts';

/** The rows of one logical tensor, a query or key projection. */
export interface HeadRows {
  readonly layer: number;
  readonly projection: 'query' | 'key';
  /** For each row its head: of queries, or of keys and values. −1 for rows of an interleaved gate. */
  readonly heads: Int32Array;
  /** Whether a row of queries meets a part of the key that all heads share; none does when left out. */
  readonly meetsSharedKey?: readonly boolean[];
}

/** By the names of logical tensors. Where keys have several copies, each is a tensor, and so each is there. */
export function headRows(model: ModelConfig): Map<string, HeadRows> {
  const rows = new Map<string, HeadRows>();
  for (const [layer, own] of layerModels(model).entries()) {
    if (activeMixer(own)) continue;
    const prefix = `model.layers.${layer}.self_attn`;
    const widths = projectionWidths(own);
    const copies = projectionCopies(own).key;
    const queries = queryHeads(own, widths.query);
    const keys = Int32Array.from({ length: widths.key / copies }, (_, row) => Math.floor(row / own.headDim));
    if (own.keyValueLatent) {
      for (const [name, ofTensor] of latentRows({ ...own, keyValueLatent: own.keyValueLatent }, queries))
        rows.set(`model.layers.${layer}.${name}`, { layer, ...ofTensor });
      continue;
    }
    rows.set(`${prefix}.q_proj.weight`, { layer, projection: 'query', heads: queries });
    for (let copy = 0; copy < copies; copy++) {
      const name = copies === 1 ? `${prefix}.k_proj.weight` : `${prefix}.k_proj.experts.${copy}.weight`;
      rows.set(name, { layer, projection: 'key', heads: keys });
    }
  }
  return rows;
}

/** Of attention with a latent. */
function latentRows(own: LayerModel & LatentSizes, queries: Int32Array) {
  const { headDim, keyValueLatent, numAttentionHeads } = own;
  const { own: ownKey, row: ofHead } = latentWidths(own);
  const perHead = queries.length / numAttentionHeads;
  const meetsSharedKey = Array.from(queries, (_, row) => {
    const channel = row % perHead;
    return channel < headDim && channel >= headDim - keyValueLatent.sharedKeyDim;
  });
  const keys = Int32Array.from({ length: numAttentionHeads * ofHead }, (_, row) =>
    row % ofHead < ownKey ? Math.floor(row / ofHead) : -1,
  );
  return [
    ['self_attn.q_proj.weight', { projection: 'query', heads: queries, meetsSharedKey }],
    [LATENT_NAMES.keysAndValues, { projection: 'key', heads: keys }],
  ] as const;
}

/** For each key-value head there are the rows of its queries, and then those of their gate. */
function queryHeads({ numAttentionHeads, numKeyValueHeads, headDim }: LayerModel, rows: number): Int32Array {
  const group = numAttentionHeads / numKeyValueHeads;
  const rowsOfGroup = rows / numKeyValueHeads;
  return Int32Array.from({ length: rows }, (_, row) => {
    const within = row % rowsOfGroup;
    if (within >= group * headDim) return -1;
    return Math.floor(row / rowsOfGroup) * group + Math.floor(within / headDim);
  });
}
