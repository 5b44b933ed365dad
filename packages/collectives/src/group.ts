/** Collective operations as a worker's main thread sees them: launched at once, waited for when needed. */

import type { CollectiveArray, ElementRange, FloatWire } from './arrays.ts';
import type { HostGrid } from './hostGrid.ts';

/** An operation that was launched. Its buffers belong to it until it is done. */
export interface Pending {
  readonly done: boolean;
  /** Blocks until it is done. @throws the operation's SluiceError */
  wait(): void;
}

/**
 * A group of ranks. Every rank launches the same operations in the same order; several may be under way. Buffers lie in
 * shared memory (`sharedFloat32` and the like), unless it says otherwise. See `ProcessGroup` for what each operation does.
 */
export interface Group {
  /** World ranks, ascending. */
  readonly ranks: readonly number[];
  /** Own rank within the group. */
  readonly rank: number;
  readonly size: number;
  /** How its ranks lie on hosts, where sums and gatherings go by hosts. */
  readonly grid?: HostGrid | undefined;
  /** Replaces every element by its sum over the ranks, added in a fixed order. */
  allReduce(buffer: CollectiveArray): Pending;
  /**
   * Replaces the own range by its sum over the ranks; the rest of `buffer` stays.
   * @param wire how floats travel. bfloat16: wherever two partial sums are added, both are rounded before; the sum of all is not
   */
  reduceScatter(buffer: CollectiveArray, ranges: readonly ElementRange[], wire?: FloatWire): Pending;
  /** Fills every other rank's range with what that rank has there. */
  allGather(buffer: CollectiveArray, ranges: readonly ElementRange[]): Pending;
  /**
   * Sends the range `sendRanges[r]` to each rank r and receives `receiveRanges[r]` from it; elements of no range, and
   * their memory, are left alone. Arrays may lie in any memory; shared memory saves copies where the ranks are on several
   * hosts.
   */
  allToAll(
    send: CollectiveArray,
    sendRanges: readonly ElementRange[],
    receive: CollectiveArray,
    receiveRanges: readonly ElementRange[],
  ): Pending;
  /** Copies the buffer of `root`, a rank of the group, to all. */
  broadcast(buffer: CollectiveArray, root: number): Pending;
  /** Done when every rank has launched it. */
  barrier(): Pending;
}
