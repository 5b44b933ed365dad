/**
 * Sums in a fixed order: the partial sums of all ranks are the leaves of a balanced binary tree,
 * ((r0 + r1) + (r2 + r3)) + …, whatever the order in which they arrived.
 */

import { roundToBfloat16, sumTreeBfloat16 } from '@sluice/engine/bfloat16';
import { type SummableArray, sumTree } from '@sluice/engine/reductions';
import { type ArrayType, arrayOver, type CollectiveArray } from './arrays.ts';
import type { Payload } from './transport.ts';

/**
 * Bytes that are summed at a time: several operands of this size stay in a core's second-level cache. To read fewer of another
 * process's memory at a time takes longer.
 */
const BLOCK_BYTES = 1 << 18;
/** The same where there are many operands. */
const BLOCK_BYTES_OF_MANY = 1 << 16;
const FEW = 4;

/** Adds the partial sums of ranks. */
export interface Reducer {
  /** Bytes of the own partial sum for each byte of another's that arrives. */
  readonly widening: number;
  /**
   * Replaces `own`, the partial sum of this rank, by the sum over all ranks.
   * @param payloads the other ranks' partial sums, each of as many elements as `own`; nothing at `ownRank`
   */
  reduce(own: Uint8Array, ownRank: number, payloads: readonly (Payload | undefined)[]): void;
}

/** One block for each rank, for payloads that do not lie in memory, or not aligned. */
class Blocks {
  readonly bytes: number;
  readonly #width: number;
  readonly #scratch: Uint8Array[];

  constructor(size: number, width: number) {
    this.bytes = size <= FEW ? BLOCK_BYTES : BLOCK_BYTES_OF_MANY;
    this.#width = width;
    this.#scratch = Array.from({ length: size }, () => new Uint8Array(this.bytes));
  }

  of(rank: number): Uint8Array {
    return this.#scratch[rank]!;
  }

  /** Bytes of a payload, aligned. */
  take(payload: Payload, rank: number, start: number, length: number): Uint8Array {
    const scratch = this.of(rank);
    const bytes = payload.view(start, length, scratch);
    if (bytes.byteOffset % this.#width === 0) return bytes;
    scratch.set(bytes);
    return scratch.subarray(0, length);
  }
}

/** Keeps the scratch memory that the sums of `size` ranks take. */
export class TreeReducer implements Reducer {
  readonly widening = 1;
  readonly #dataType: ArrayType;
  readonly #width: number;
  readonly #blocks: Blocks;

  constructor(dataType: ArrayType, size: number) {
    this.#dataType = dataType;
    this.#width = arrayOver(dataType, new ArrayBuffer(0), 0, 0).BYTES_PER_ELEMENT;
    this.#blocks = new Blocks(size, this.#width);
  }

  reduce(own: Uint8Array, ownRank: number, payloads: readonly (Payload | undefined)[]): void {
    for (let start = 0; start < own.length; start += this.#blocks.bytes) {
      const length = Math.min(this.#blocks.bytes, own.length - start);
      const target = this.#elements(own.subarray(start, start + length));
      const leaves = payloads.map((payload, rank) =>
        rank === ownRank ? target : this.#elements(this.#blocks.take(payload!, rank, start, length)),
      );
      if (target instanceof Uint8Array) sumBytes(target, leaves);
      else sumTree(target, leaves as SummableArray[]);
    }
  }

  #elements(bytes: Uint8Array): CollectiveArray {
    return arrayOver(this.#dataType, bytes.buffer, bytes.byteOffset, bytes.length / this.#width);
  }
}

/** Adds floats that arrive rounded to bfloat16: each two partial sums are rounded before they are added, the own one too. */
export class RoundedReducer implements Reducer {
  readonly widening = 2;
  readonly #blocks: Blocks;

  constructor(size: number) {
    this.#blocks = new Blocks(size, Uint16Array.BYTES_PER_ELEMENT);
  }

  reduce(own: Uint8Array, ownRank: number, payloads: readonly (Payload | undefined)[]): void {
    const sums = new Float32Array(own.buffer, own.byteOffset, own.length / Float32Array.BYTES_PER_ELEMENT);
    const most = this.#blocks.bytes / Uint16Array.BYTES_PER_ELEMENT;
    for (let start = 0; start < sums.length; start += most) {
      const target = sums.subarray(start, start + most);
      const leaves = payloads.map((payload, rank) => {
        const bytes =
          rank === ownRank
            ? this.#blocks.of(rank)
            : this.#blocks.take(payload!, rank, 2 * start, 2 * target.length);
        return new Uint16Array(bytes.buffer, bytes.byteOffset, target.length);
      });
      roundToBfloat16(target, leaves[ownRank]!);
      sumTreeBfloat16(target, leaves);
    }
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
