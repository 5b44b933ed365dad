/** Tokens to the experts of other workers and back, by all-to-all over shared memory. */

import { type Group, sharedFloat32, sharedInt32 } from '@sluice/collectives';
import type { ExpertExchange } from '@sluice/model';

export class GroupExpertExchange implements ExpertExchange {
  readonly #group: Group;
  #countsOut = sharedInt32(0);
  #countsIn = sharedInt32(0);
  #rowsOut = sharedFloat32(0);
  #rowsIn = sharedFloat32(0);
  /** Seconds spent waiting for peers. */
  secondsWaited = 0;

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
    if (this.#countsOut.length !== counts.length) {
      this.#countsOut = sharedInt32(counts.length);
      this.#countsIn = sharedInt32(counts.length);
    }
    this.#countsOut.set(counts);
    const each = new Array<number>(this.size).fill(counts.length / this.size);
    this.#wait(() => this.#group.allToAll(this.#countsOut, each, this.#countsIn, each));
    return Int32Array.from(this.#countsIn);
  }

  exchangeRows(
    rows: Float32Array,
    rowsToPeer: readonly number[],
    received: Float32Array,
    rowsFromPeer: readonly number[],
    width: number,
  ): void {
    this.#rowsOut = atLeast(this.#rowsOut, rows.length);
    this.#rowsIn = atLeast(this.#rowsIn, received.length);
    this.#rowsOut.set(rows);
    const inFloats = (counts: readonly number[]) => counts.map((count) => count * width);
    this.#wait(() =>
      this.#group.allToAll(this.#rowsOut, inFloats(rowsToPeer), this.#rowsIn, inFloats(rowsFromPeer)),
    );
    received.set(this.#rowsIn.subarray(0, received.length));
  }

  #wait(start: () => { wait(): void }): void {
    const started = performance.now();
    start().wait();
    this.secondsWaited += (performance.now() - started) / 1000;
  }
}

/** The buffer, or a larger one: sizes vary from grain to grain, so it grows in generous steps. */
function atLeast(buffer: Float32Array, length: number): Float32Array {
  return buffer.length >= length ? buffer : sharedFloat32(Math.ceil(length * 1.25));
}
