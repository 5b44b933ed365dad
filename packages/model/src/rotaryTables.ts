/** The tables of a model's rotary embeddings, one for all layers that rotate alike. */

import type { RotaryTable } from '@sluice/engine';
import type { KeyValueCache } from './keyValueCache.ts';
import type { LayerModel } from './layers.ts';
import { rotaryTableFor } from './rope.ts';

interface LongTable {
  readonly table: RotaryTable;
  /** Positions. */
  readonly length: number;
}

export class RotaryTables {
  readonly #tables = new Map<string, LongTable>();

  /** The table for so many rows of a layer: those that follow the tokens in the cache, or from position 0 on. */
  following(model: LayerModel, rows: number, cache: KeyValueCache | undefined): RotaryTable {
    // One table for the whole of a cache, not a longer one with each token.
    const table = this.#reaching(model, cache?.capacity ?? rows);
    const skipped = (cache?.length ?? 0) * (model.headDim / 2);
    return skipped === 0 ? table : { cos: table.cos.subarray(skipped), sin: table.sin.subarray(skipped) };
  }

  #reaching(model: LayerModel, length: number): RotaryTable {
    const { headDim, rotaryDim, ropeTheta, ropeScaling, positions } = model;
    const key = JSON.stringify([headDim, rotaryDim, ropeTheta, ropeScaling, positions]);
    const known = this.#tables.get(key);
    if (known && known.length >= length) return known.table;
    const table = rotaryTableFor(model, length);
    this.#tables.set(key, { table, length });
    return table;
  }
}
