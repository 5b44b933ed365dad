/**
 * Sums in a fixed order: the partial sums of all ranks are the leaves of a balanced binary tree,
 * ((r0 + r1) + (r2 + r3)) + …, whatever the order in which they arrived.
 */

import { arrayOver, type CollectiveArray, type DataType } from './arrays.ts';
import type { Payload } from './transport.ts';

/** Bytes that are summed at a time: several operands of this size stay in a core's second-level cache. */
const BLOCK_BYTES = 1 << 16;

/** target = a + b; `target` may be either of them. */
function add(target: CollectiveArray, a: CollectiveArray, b: CollectiveArray): void {
  if (target instanceof Float32Array && a instanceof Float32Array && b instanceof Float32Array) {
    addFloat32(target, a, b);
    return;
  }
  for (let i = 0; i < target.length; i++) target[i] = a[i]! + b[i]!;
}

/** Unrolled: the engine's compiler does not vectorise, but keeps eight independent additions in flight. */
function addFloat32(target: Float32Array, a: Float32Array, b: Float32Array): void {
  const length = target.length;
  const bulk = length - (length % 8);
  for (let i = 0; i < bulk; i += 8) {
    target[i] = a[i]! + b[i]!;
    target[i + 1] = a[i + 1]! + b[i + 1]!;
    target[i + 2] = a[i + 2]! + b[i + 2]!;
    target[i + 3] = a[i + 3]! + b[i + 3]!;
    target[i + 4] = a[i + 4]! + b[i + 4]!;
    target[i + 5] = a[i + 5]! + b[i + 5]!;
    target[i + 6] = a[i + 6]! + b[i + 6]!;
    target[i + 7] = a[i + 7]! + b[i + 7]!;
  }
  for (let i = bulk; i < length; i++) target[i] = a[i]! + b[i]!;
}

/** Adds the partial sums of `size` ranks; keeps the scratch memory that this takes. */
export class TreeReducer {
  readonly #dataType: DataType;
  readonly #size: number;
  /** One block for each rank: to gather a payload that is elsewhere, then for the sums of the tree's nodes. */
  readonly #received: Uint8Array[];
  readonly #sums: Uint8Array[];

  constructor(dataType: DataType, size: number) {
    this.#dataType = dataType;
    this.#size = size;
    this.#received = Array.from({ length: size }, () => new Uint8Array(BLOCK_BYTES));
    this.#sums = Array.from({ length: size > 2 ? size : 0 }, () => new Uint8Array(BLOCK_BYTES));
  }

  /**
   * Replaces `own`, the partial sum of this rank, by the sum over all ranks.
   * @param payloads the other ranks' partial sums, each as long as `own`; nothing at `ownRank`
   */
  reduce(own: Uint8Array, ownRank: number, payloads: readonly (Payload | undefined)[]): void {
    for (let start = 0; start < own.length; start += BLOCK_BYTES) {
      const length = Math.min(BLOCK_BYTES, own.length - start);
      const target = this.#elements(own.subarray(start, start + length));
      const leaves = payloads.map((payload, rank) =>
        rank === ownRank ? target : this.#leaf(payload!, rank, start, length),
      );
      this.#sumTree(target, leaves, length);
    }
  }

  #sumTree(target: CollectiveArray, leaves: CollectiveArray[], length: number): void {
    let nodes = leaves;
    while (nodes.length > 1) {
      const parents: CollectiveArray[] = [];
      for (let i = 0; i < nodes.length; i += 2) {
        const left = nodes[i]!;
        const right = nodes[i + 1];
        if (right === undefined) {
          parents.push(left);
          continue;
        }
        // A leaf may be the target itself, so only the root is written there.
        const sum = nodes.length === 2 ? target : this.#elements(this.#sums[i / 2]!.subarray(0, length));
        add(sum, left, right);
        parents.push(sum);
      }
      nodes = parents;
    }
  }

  #leaf(payload: Payload, rank: number, start: number, length: number): CollectiveArray {
    const scratch = this.#received[rank]!;
    const bytes = payload.view(start, length, scratch);
    const width = this.#dataType === 'uint8' ? 1 : this.#dataType === 'float64' ? 8 : 4;
    if (bytes.byteOffset % width === 0) return this.#elements(bytes);
    scratch.set(bytes);
    return this.#elements(scratch.subarray(0, length));
  }

  #elements(bytes: Uint8Array): CollectiveArray {
    const width = this.#dataType === 'uint8' ? 1 : this.#dataType === 'float64' ? 8 : 4;
    return arrayOver(this.#dataType, bytes.buffer, bytes.byteOffset, bytes.length / width);
  }

  get size(): number {
    return this.#size;
  }
}
