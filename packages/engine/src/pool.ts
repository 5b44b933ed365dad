/**
 * Memory that is used again. A training step needs much the same sizes as the one before, so after the first steps
 * nothing is allocated any more.
 */

import { invariant } from '@sluice/core';

/** Smallest buffer. */
const LEAST_BYTES = 4096;
/** Sizes between a power of two and the next; a buffer is made at most an eighth larger than needed. */
const SIZES_PER_OCTAVE = 8;
/** A free buffer may be lent for so much less, rather than that a new one is made. */
const MOST_TIMES_NEEDED = 2;
/**
 * Free buffers are dropped, those of the sizes that were last used longest ago first, when the pool would grow beyond what
 * was ever lent at once by more than this: sizes that vary from step to step must not pile up.
 */
const MOST_BYTES_PER_PEAK_BYTE = 1.5;
const SLACK_BYTES = 32 * 2 ** 20;

export interface PoolStatistics {
  /** Bytes of all buffers that the pool holds or has lent out. */
  readonly allocatedBytes: number;
  /** Bytes that are lent out now, as they were asked for, rounded up to sizes of the pool. */
  readonly usedBytes: number;
  /** The largest `usedBytes` so far. */
  readonly peakUsedBytes: number;
  readonly buffersMade: number;
  readonly buffersReused: number;
  /** Free buffers left to the garbage collector, because other sizes are needed now. */
  readonly buffersDropped: number;
}

export class BufferPool {
  readonly #make: (byteLength: number) => ArrayBuffer;
  /** By size; sizes that were given back last come last. */
  readonly #free = new Map<number, ArrayBuffer[]>();
  /** With the bytes that were asked for. */
  readonly #lent = new Map<ArrayBufferLike, number>();
  #allocatedBytes = 0;
  /** Of whole buffers, which may be larger than what was asked for. */
  #lentBytes = 0;
  #peakLentBytes = 0;
  #usedBytes = 0;
  #peakUsedBytes = 0;
  #made = 0;
  #reused = 0;
  #dropped = 0;

  /** @param make gives new memory of a size, of arbitrary content */
  constructor(make = (byteLength: number) => new ArrayBuffer(byteLength)) {
    this.#make = make;
  }

  /** A buffer of at least `byteLength` bytes with arbitrary content. */
  take(byteLength: number): ArrayBuffer {
    const size = pooledBytes(byteLength);
    this.#usedBytes += size;
    this.#peakUsedBytes = Math.max(this.#peakUsedBytes, this.#usedBytes);
    const buffer = this.#reuse(size) ?? this.#makeNew(size);
    this.#lent.set(buffer, size);
    this.#lentBytes += buffer.byteLength;
    this.#peakLentBytes = Math.max(this.#peakLentBytes, this.#lentBytes);
    return buffer;
  }

  #reuse(size: number): ArrayBuffer | undefined {
    const buffer = this.#free.get(size)?.pop() ?? this.#free.get(this.#nextFreeSize(size))?.pop();
    if (buffer) this.#reused++;
    return buffer;
  }

  /** The least size of a free buffer that serves for `size`; infinity when there is none. */
  #nextFreeSize(size: number): number {
    let least = Number.POSITIVE_INFINITY;
    for (const [free, list] of this.#free) {
      const fits = free >= size && free <= MOST_TIMES_NEEDED * size && list.length > 0;
      if (fits && free < least) least = free;
    }
    return least;
  }

  #makeNew(size: number): ArrayBuffer {
    const peakBytes = Math.max(this.#peakLentBytes, this.#lentBytes + size);
    this.#dropDownTo(MOST_BYTES_PER_PEAK_BYTE * peakBytes + SLACK_BYTES - size);
    this.#allocatedBytes += size;
    this.#made++;
    return this.#make(size);
  }

  /** Gives a buffer back. Nobody may hold a view of it any longer. */
  give(buffer: ArrayBuffer): void {
    const asked = this.#lent.get(buffer);
    invariant(asked !== undefined, 'a buffer is given back that the pool did not lend, or twice');
    this.#lent.delete(buffer);
    this.#usedBytes -= asked;
    const size = buffer.byteLength;
    this.#lentBytes -= size;
    const list = this.#free.get(size) ?? [];
    list.push(buffer);
    this.#free.delete(size);
    this.#free.set(size, list);
  }

  /** Whether a buffer is lent out at the moment. */
  hasLent(buffer: ArrayBufferLike): boolean {
    return this.#lent.has(buffer);
  }

  /** Drops all free buffers. */
  trim(): void {
    this.#dropDownTo(0);
  }

  #dropDownTo(mostBytes: number): void {
    for (const [size, list] of this.#free) {
      while (list.length > 0 && this.#allocatedBytes > mostBytes) {
        list.pop();
        this.#allocatedBytes -= size;
        this.#dropped++;
      }
      if (list.length === 0) this.#free.delete(size);
    }
  }

  statistics(): PoolStatistics {
    return {
      allocatedBytes: this.#allocatedBytes,
      usedBytes: this.#usedBytes,
      peakUsedBytes: this.#peakUsedBytes,
      buffersMade: this.#made,
      buffersReused: this.#reused,
      buffersDropped: this.#dropped,
    };
  }
}

/** Bytes of the buffer that the pool makes for `byteLength` of them. */
export function pooledBytes(byteLength: number): number {
  if (byteLength <= LEAST_BYTES) return LEAST_BYTES;
  const step = 2 ** Math.floor(Math.log2(byteLength - 1)) / SIZES_PER_OCTAVE;
  return Math.ceil(byteLength / step) * step;
}
