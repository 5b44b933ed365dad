/**
 * Memory that is used again. A training step needs the same sizes in the same order as the one before, so after the
 * first step nothing is allocated any more.
 */

/** Sizes are rounded up to these steps, so that nearly equal requests share a buffer. */
const GRANULE_BYTES = 4096;

export interface PoolStatistics {
  /** Bytes of all buffers that the pool made and that are not lost to it. */
  readonly allocatedBytes: number;
  /** Bytes of those that are lent out now. */
  readonly usedBytes: number;
  /** The largest `usedBytes` so far. */
  readonly peakUsedBytes: number;
  readonly buffersMade: number;
  readonly buffersReused: number;
}

export class BufferPool {
  readonly #free = new Map<number, ArrayBuffer[]>();
  #allocatedBytes = 0;
  #usedBytes = 0;
  #peakUsedBytes = 0;
  #made = 0;
  #reused = 0;

  /** A buffer of at least `byteLength` bytes with arbitrary content. */
  take(byteLength: number): ArrayBuffer {
    const size = Math.max(GRANULE_BYTES, Math.ceil(byteLength / GRANULE_BYTES) * GRANULE_BYTES);
    this.#usedBytes += size;
    this.#peakUsedBytes = Math.max(this.#peakUsedBytes, this.#usedBytes);
    const buffer = this.#free.get(size)?.pop();
    if (buffer) {
      this.#reused++;
      return buffer;
    }
    this.#made++;
    this.#allocatedBytes += size;
    return new ArrayBuffer(size);
  }

  /** Gives a buffer back. Nobody may hold a view of it any longer. */
  give(buffer: ArrayBuffer): void {
    this.#usedBytes -= buffer.byteLength;
    const list = this.#free.get(buffer.byteLength);
    if (list) list.push(buffer);
    else this.#free.set(buffer.byteLength, [buffer]);
  }

  /** Leaves a lent buffer to the garbage collector: somebody outside may hold a view of it. */
  forget(buffer: ArrayBuffer): void {
    this.#usedBytes -= buffer.byteLength;
    this.#allocatedBytes -= buffer.byteLength;
  }

  /** Drops all free buffers. */
  trim(): void {
    for (const [size, list] of this.#free) this.#allocatedBytes -= size * list.length;
    this.#free.clear();
  }

  statistics(): PoolStatistics {
    return {
      allocatedBytes: this.#allocatedBytes,
      usedBytes: this.#usedBytes,
      peakUsedBytes: this.#peakUsedBytes,
      buffersMade: this.#made,
      buffersReused: this.#reused,
    };
  }
}
