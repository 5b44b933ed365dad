/** Which rows are whose, as products of experts (`kernels/expertProducts.cu`) take it. E experts, M rows. */

import { invariant } from '@sluice/core';
import type { ExpertSegment } from '../ops/expertFeedForward.ts';
import type { CudaDevice, DeviceArray } from './device.ts';

type Integers = DeviceArray<'i32'>;

/** Of a block of `planDispatch.cu`: the words of shared memory of each expert, in bytes. */
const SHARED_BYTES_OF_EXPERT = 8;

export interface ExpertRows {
  /** M */
  readonly rows: number;
  /** How many segments share them, at most. */
  readonly segments: number;
  /** [tiles, 3]: the first row of each tile, the row before which its segment ends, its expert; there may be tiles without rows. */
  tiles(edge: number): Integers;
  /**
   * [segments, 3]: the first row of each of a source's segments, its number of rows, its expert.
   * @param experts E, each of which has a segment, or the ones with rows where only they are `needed`
   */
  segmentsOf(source: number, experts: number, needed: 'all' | 'filled'): Integers;
}

/** Rows of which the host knows whose they are. */
export class HostRows implements ExpertRows {
  readonly rows: number;
  readonly segments: number;
  readonly #device: CudaDevice;
  readonly #filled: readonly ExpertSegment[];

  constructor(device: CudaDevice, segments: readonly ExpertSegment[]) {
    this.#device = device;
    this.#filled = segments.filter(({ count }) => count > 0);
    this.segments = this.#filled.length;
    this.rows = this.#filled.reduce((sum, { count }) => sum + count, 0);
  }

  tiles(edge: number): Integers {
    const tiles = this.#filled.flatMap(({ expert, begin, count }) =>
      Array.from({ length: Math.ceil(count / edge) }, (_, i) => [begin + i * edge, begin + count, expert]),
    );
    return this.#device.upload(Int32Array.from(tiles.flat()), 'i32');
  }

  segmentsOf(source: number, experts: number, needed: 'all' | 'filled'): Integers {
    const own = this.#filled.filter((segment) => segment.source === source);
    const filled = new Map(own.map((segment) => [segment.expert, segment]));
    const all = Array.from({ length: experts }, (_, expert) => {
      const { begin, count } = filled.get(expert) ?? { begin: 0, count: 0 };
      return [begin, count, expert];
    });
    const wanted = needed === 'all' ? all : all.filter(([, count]) => count! > 0);
    return this.#device.upload(Int32Array.from(wanted.flat()), 'i32');
  }
}

/** Rows of one source, expert after expert, of which the device alone knows how many each expert has. */
export class CountedRows implements ExpertRows {
  readonly rows: number;
  readonly segments: number;
  readonly #counts: Integers;

  /** @param counts [E] */
  constructor(counts: Integers, rows: number) {
    this.rows = rows;
    this.segments = counts.length;
    this.#counts = counts;
  }

  tiles(edge: number): Integers {
    // Whole tiles, and one for what is left of each expert's rows.
    const most = Math.floor(this.rows / edge) + this.segments;
    const tiles = this.#counts.device.allocate(3 * most, 'i32');
    this.#launch(tiles, null, edge);
    return tiles;
  }

  segmentsOf(source: number, experts: number): Integers {
    invariant(source === 0 && experts === this.segments, 'counts of one source, for each expert');
    const segments = this.#counts.device.allocate(3 * experts, 'i32');
    this.#launch(null, segments, 1);
    return segments;
  }

  #launch(tiles: Integers | null, segments: Integers | null, edge: number): void {
    const kernel = this.#counts.device.kernel('planDispatch', 'expertRows');
    const args = [this.#counts, tiles, segments, this.segments, edge, (tiles?.length ?? 0) / 3];
    kernel.launch([1], SHARED_BYTES_OF_EXPERT * this.segments, ...args);
  }
}
