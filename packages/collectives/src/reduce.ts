/**
 * Sums in a fixed order: the partial sums of all ranks are the leaves of a balanced binary tree,
 * ((r0 + r1) + (r2 + r3)) + …, whatever the order in which they arrived.
 */

import { type SummableArray, sumTree } from '@sluice/engine/reductions';
import { arrayOver, type CollectiveArray, type DataType } from './arrays.ts';
import type { Payload } from './transport.ts';

/**
 * Bytes that are summed at a time: several operands of this size stay in a core's second-level cache. To read fewer of another
 * process's memory at a time takes longer.
 */
const BLOCK_BYTES = 1 << 18;
/** The same where there are many operands. */
const BLOCK_BYTES_OF_MANY = 1 << 16;
const FEW = 4;

/** Adds the partial sums of `size` ranks; keeps the scratch memory that this takes. */
export class TreeReducer {
  readonly #dataType: DataType;
  readonly #width: number;
  readonly #blockBytes: number;
  /** One block for each rank, for payloads that do not lie in memory, or not aligned. */
  readonly #scratch: Uint8Array[];

  constructor(dataType: DataType, size: number) {
    this.#dataType = dataType;
    this.#width = arrayOver(dataType, new ArrayBuffer(0), 0, 0).BYTES_PER_ELEMENT;
    this.#blockBytes = size <= FEW ? BLOCK_BYTES : BLOCK_BYTES_OF_MANY;
    this.#scratch = Array.from({ length: size }, () => new Uint8Array(this.#blockBytes));
  }

  /**
   * Replaces `own`, the partial sum of this rank, by the sum over all ranks.
   * @param payloads the other ranks' partial sums, each as long as `own`; nothing at `ownRank`
   */
  reduce(own: Uint8Array, ownRank: number, payloads: readonly (Payload | undefined)[]): void {
    for (let start = 0; start < own.length; start += this.#blockBytes) {
      const length = Math.min(this.#blockBytes, own.length - start);
      const target = this.#elements(own.subarray(start, start + length));
      const leaves = payloads.map((payload, rank) =>
        rank === ownRank ? target : this.#leaf(payload!, rank, start, length),
      );
      if (target instanceof Uint8Array) sumBytes(target, leaves);
      else sumTree(target, leaves as SummableArray[]);
    }
  }

  #leaf(payload: Payload, rank: number, start: number, length: number): CollectiveArray {
    const scratch = this.#scratch[rank]!;
    const bytes = payload.view(start, length, scratch);
    if (bytes.byteOffset % this.#width === 0) return this.#elements(bytes);
    scratch.set(bytes);
    return this.#elements(scratch.subarray(0, length));
  }

  #elements(bytes: Uint8Array): CollectiveArray {
    return arrayOver(this.#dataType, bytes.buffer, bytes.byteOffset, bytes.length / this.#width);
  }
}

/** Bytes wrap around, so that no order of additions differs from another. */
function sumBytes(target: Uint8Array, leaves: readonly CollectiveArray[]): void {
  for (let i = 0; i < target.length; i++) {
    let sum = 0;
    for (const leaf of leaves) sum += leaf[i]!;
    target[i] = sum;
  }
}
