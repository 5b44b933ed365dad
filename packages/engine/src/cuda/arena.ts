/**
 * Memory of a device that is lent out and taken back at once, without a call of the driver: one stream orders all work, so
 * whoever gets memory next uses it after whoever had it before. Work beside that stream says what it uses (`useBeside`). One
 * range of addresses is reserved, and memory is mapped to its end as it is needed, so that the arena grows without moving.
 * Where the driver maps none, or reserves no such range, it is one allocation that does not grow.
 *
 * The free block that fits best is taken. Small blocks come from the bottom and large ones from the top, so that small ones that
 * stay do not divide the space of the large. Addresses depend on nothing but what was asked for before.
 */

import { invariant, SluiceError } from '@sluice/core';
import type { PoolStatistics } from '../pool.ts';
import type { CudaDriver, DeviceAddress } from './driver.ts';
import { ALIGNMENT, arenaBytes } from './memorySizes.ts';

/** From here on a block is large. */
const LARGE_BYTES = 2 ** 20;
/** The arena grows by multiples of this. */
const GROWTH_BYTES = 32 * 2 ** 20;
/** Of the device's free memory, where an arena cannot grow. */
const SHARE_OF_FREE = 0.9;

/** What an arena needs of the driver. */
export type ArenaDriver = Pick<
  CudaDriver,
  | 'allocate'
  | 'free'
  | 'map'
  | 'mappingGranularity'
  | 'memory'
  | 'reserve'
  | 'synchronize'
  | 'unmap'
  | 'unreserve'
  | 'watch'
>;

/** A range. */
interface Block {
  readonly address: DeviceAddress;
  readonly bytes: number;
}

/** Of work beside the stream that orders all other. */
export interface UseBeside {
  readonly ranges: readonly Block[];
  /** Makes the stream wait for the end of that work; it is called once. */
  readonly end: () => void;
}

const roundUp = (bytes: number, multiple: number) => Math.ceil(bytes / multiple) * multiple;
const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export class Arena {
  readonly #driver: ArenaDriver;
  /** Where the arena may reach, and where its memory ends now. */
  #begin = 0;
  #end = 0;
  #limit = 0;
  /** What memory comes in multiples of; 0 where the arena is one allocation. */
  #granularity = 0;
  /** What was mapped, to be unmapped as it was. */
  readonly #mapped: Block[] = [];
  /** By address; no two of them touch. */
  readonly #free: Block[] = [];
  readonly #lent = new Map<DeviceAddress, number>();
  readonly #usedBeside = new Set<UseBeside>();
  #usedBytes = 0;
  #peakUsedBytes = 0;
  #grown = 0;
  #reused = 0;

  constructor(driver: ArenaDriver) {
    this.#driver = driver;
  }

  /**
   * Memory of arbitrary content, at a multiple of 512 bytes.
   * @throws SLUICE_E_OUT_OF_MEMORY
   */
  take(bytes: number): DeviceAddress {
    const { watch } = this.#driver;
    const size = arenaBytes(bytes + (watch?.gapBytes ?? 0));
    let index = this.#bestFit(size);
    if (index === undefined) {
      this.#grow(size);
      this.#grown++;
      index = this.#free.length - 1;
    } else this.#reused++;
    const address = this.#cut(index, size);
    this.#lent.set(address, size);
    this.#usedBytes += size;
    this.#peakUsedBytes = Math.max(this.#peakUsedBytes, this.#usedBytes);
    watch?.taken(address, bytes);
    return address;
  }

  /** Takes back what `take` gave. Work that was launched before may still use it. */
  give(address: DeviceAddress): void {
    const bytes = this.#lent.get(address);
    invariant(bytes !== undefined, 'memory is given back to an arena that did not lend it, or twice');
    if (this.#usedBeside.size > 0) this.#endBesideIn(address, address + bytes);
    this.#driver.watch?.given(address);
    this.#lent.delete(address);
    this.#usedBytes -= bytes;
    this.#join({ address, bytes });
  }

  /** Notes that work beside the stream uses memory from now on: before any of it is lent again, its end is waited for. */
  useBeside(use: UseBeside): void {
    this.#usedBeside.add(use);
  }

  /** Ends such a use, unless that was done before. */
  endBeside(use: UseBeside): void {
    if (this.#usedBeside.delete(use)) use.end();
  }

  /** Ends them all. */
  endAllBeside(): void {
    for (const use of this.#usedBeside) this.endBeside(use);
  }

  #endBesideIn(begin: DeviceAddress, end: DeviceAddress): void {
    for (const use of this.#usedBeside) {
      const isWithin = use.ranges.some(({ address, bytes }) => address < end && begin < address + bytes);
      if (isWithin) this.endBeside(use);
    }
  }

  /** The smallest free block that is large enough; of several for a small one the first, for a large one the last. */
  #bestFit(size: number): number | undefined {
    let best: number | undefined;
    let ofBest = Number.POSITIVE_INFINITY;
    // It is asked for often: no iterators.
    for (let i = 0; i < this.#free.length; i++) {
      const { bytes } = this.#free[i]!;
      if (bytes < size || bytes > ofBest || (bytes === ofBest && size < LARGE_BYTES)) continue;
      best = i;
      ofBest = bytes;
    }
    return best;
  }

  #cut(index: number, size: number): DeviceAddress {
    const { address, bytes } = this.#free[index]!;
    const isLarge = size >= LARGE_BYTES;
    const rest = { address: isLarge ? address : address + size, bytes: bytes - size };
    if (rest.bytes > 0) this.#free[index] = rest;
    else this.#free.splice(index, 1);
    return isLarge ? address + rest.bytes : address;
  }

  /** Adds a free block, as one with its neighbours. */
  #join({ address, bytes }: Block): void {
    const next = this.#firstFreeAfter(address);
    const [before, after] = [this.#free[next - 1], this.#free[next]];
    const joinsBefore = before !== undefined && before.address + before.bytes === address;
    const joinsAfter = after !== undefined && address + bytes === after.address;
    const block = {
      address: joinsBefore ? before.address : address,
      bytes: bytes + (joinsBefore ? before.bytes : 0) + (joinsAfter ? after.bytes : 0),
    };
    const at = joinsBefore ? next - 1 : next;
    if (joinsBefore !== joinsAfter) this.#free[at] = block;
    else this.#free.splice(at, joinsBefore ? 2 : 0, block);
  }

  #firstFreeAfter(address: DeviceAddress): number {
    let [low, high] = [0, this.#free.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#free[middle]!.address < address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Adds memory at the end, so that the last free block has `size` bytes. It may wait for all that is under way, so that is ended before. */
  #grow(size: number): void {
    this.endAllBeside();
    if (this.#limit === 0) this.#open();
    const last = this.#free.at(-1);
    const there = last && last.address + last.bytes === this.#end ? last.bytes : 0;
    if (there >= size) return;
    const needed = roundUp(size - there, this.#granularity || 1);
    const wished = Math.min(roundUp(needed, GROWTH_BYTES), this.#limit - this.#end);
    if (this.#granularity === 0 || !(this.#map(wished, needed) || this.#map(needed, needed)))
      throw this.#exhausted(size);
  }

  #map(bytes: number, atLeast: number): boolean {
    if (bytes < atLeast || this.#end + bytes > this.#limit || !this.#driver.map(this.#end, bytes))
      return false;
    const block = { address: this.#end, bytes };
    this.#mapped.push(block);
    this.#end += bytes;
    this.#join(block);
    return true;
  }

  #open(): void {
    const { free, total } = this.#driver.memory;
    this.#granularity = this.#driver.mappingGranularity;
    const range = this.#granularity > 0 ? roundUp(total, this.#granularity) : 0;
    const begin = range > 0 ? this.#driver.reserve(range) : undefined;
    if (begin !== undefined) {
      this.#begin = begin;
      this.#end = begin;
      this.#limit = begin + range;
      return;
    }
    this.#granularity = 0;
    const bytes = Math.floor((free * SHARE_OF_FREE) / ALIGNMENT) * ALIGNMENT;
    const address = this.#driver.allocate(bytes);
    if (address === undefined) throw this.#exhausted(bytes);
    this.#begin = address;
    this.#end = address + bytes;
    this.#limit = this.#end;
    this.#join({ address, bytes });
  }

  #exhausted(size: number): SluiceError {
    const { free, total } = this.#driver.memory;
    const largest = this.#free.reduce((most, { bytes }) => Math.max(most, bytes), 0);
    const allocated = this.#end - this.#begin;
    const details = {
      bytes: size,
      usedBytes: this.#usedBytes,
      allocatedBytes: allocated,
      largestFreeBytes: largest,
    };
    return new SluiceError(
      'SLUICE_E_OUT_OF_MEMORY',
      `The GPU has no ${mebibytes(size)} more: ${mebibytes(this.#usedBytes)} are in use, the largest free block of the ` +
        `${mebibytes(allocated)} that this process holds has ${mebibytes(largest)}, and ${mebibytes(free)} of the GPU's ` +
        `${mebibytes(total)} are free. Make batch.grainSequences or data.sequenceLength smaller, or the model.`,
      { details },
    );
  }

  /** What the arena holds; `buffersMade` counts the times when memory had to be added. */
  statistics(): PoolStatistics {
    return {
      allocatedBytes: this.#end - this.#begin,
      usedBytes: this.#usedBytes,
      peakUsedBytes: this.#peakUsedBytes,
      buffersMade: this.#grown,
      buffersReused: this.#reused,
      buffersDropped: 0,
    };
  }

  /** Gives all memory back to the driver, also what is lent out. The arena begins anew when it is asked again. */
  dispose(): void {
    if (this.#limit === 0) return;
    this.endAllBeside();
    this.#driver.synchronize();
    for (const address of this.#lent.keys()) this.#driver.watch?.given(address);
    for (const { address, bytes } of this.#mapped) this.#driver.unmap(address, bytes);
    if (this.#granularity > 0) this.#driver.unreserve(this.#begin, this.#limit - this.#begin);
    else this.#driver.free(this.#begin);
    this.#lent.clear();
    this.#mapped.length = 0;
    this.#free.length = 0;
    this.#usedBytes = 0;
    this.#begin = 0;
    this.#end = 0;
    this.#limit = 0;
  }
}
