/** Tokens to the experts of other workers and back, by all-to-all. */

import type { Group } from '@sluice/collectives';
import type { ExpertExchange } from '@sluice/model';

export class GroupExpertExchange implements ExpertExchange {
  readonly #group: Group;

  constructor(group: Group) {
    this.#group = group;
  }

  get rank(): number {
    return this.#group.rank;
  }

  get size(): number {
    return this.#group.size;
  }

  exchangeCounts(counts: Int32Array): Int32Array {
    if (this.size === 1) return counts;
    const received = new Int32Array(counts.length);
    const each = new Array<number>(this.size).fill(counts.length / this.size);
    this.#group.allToAll(counts, each, received, each).wait();
    return received;
  }

  exchangeRows(
    rows: Float32Array,
    rowsToPeer: readonly number[],
    received: Float32Array,
    rowsFromPeer: readonly number[],
    width: number,
  ): void {
    const inFloats = (counts: readonly number[]) => counts.map((count) => count * width);
    this.#group.allToAll(rows, inFloats(rowsToPeer), received, inFloats(rowsFromPeer)).wait();
  }
}
