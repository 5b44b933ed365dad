/** Where matrices lie, as Hopper's copy engine is told (`cuda/hopper.h`). Maps are made once: matrices of a pass lie where they lay in the one before. */

import { invariant } from '@sluice/core';
import type { CudaDriver, DeviceAddress } from './driver.ts';
import { bytesOf, type Storage } from './kernelSource.ts';

/** Bytes of a tile's row. */
const ROW_BYTES = 128;
/** Beyond so many all are forgotten, since sizes may go on changing. */
const MOST_MAPS = 4096;

/** Matrices of the same shape, one after the other. */
export interface Matrices {
  readonly rows: number;
  readonly columns: number;
  /** 1 if nothing is said. */
  readonly count?: number;
}

/** Where they lie: a `DeviceArray`. */
interface PlacedMatrices {
  readonly address: DeviceAddress;
  readonly storage: 'bf16' | 'f32';
  readonly length: number;
}

/** A `TensorMap` of `hopper.h`, as its bytes. */
export type TensorMap = Uint8Array;

interface Known {
  readonly rows: number;
  readonly columns: number;
  readonly count: number;
  readonly boxRows: number;
  readonly boxMatrices: number;
  readonly storage: Storage;
  readonly map: TensorMap;
}

export class TensorMaps {
  readonly #driver: CudaDriver;
  /** By the address where the matrices begin. */
  readonly #known = new Map<DeviceAddress, Known[]>();
  #count = 0;

  constructor(driver: CudaDriver) {
    this.#driver = driver;
  }

  /** How many are kept. */
  get count(): number {
    return this.#count;
  }

  /**
   * The map by which tiles of `boxRows` rows of 128 bytes are copied, each of `boxMatrices` matrices.
   * @param array matrices without gaps; rows are multiples of 16 bytes
   */
  of(
    array: PlacedMatrices,
    { rows, columns, count = 1 }: Matrices,
    boxRows: number,
    boxMatrices = 1,
  ): TensorMap {
    const { address, storage } = array;
    let known = this.#known.get(address);
    if (known) {
      // Products are many: no closures.
      for (const each of known)
        if (
          each.rows === rows &&
          each.columns === columns &&
          each.count === count &&
          each.boxRows === boxRows &&
          each.boxMatrices === boxMatrices &&
          each.storage === storage
        )
          return each.map;
    }
    invariant(
      rows * columns * count <= array.length,
      `${count} matrices of ${rows} × ${columns} in ${array.length} values`,
    );
    if (this.#count >= MOST_MAPS) {
      this.#known.clear();
      this.#count = 0;
      known = undefined;
    }
    if (!known) {
      known = [];
      this.#known.set(address, known);
    }
    const size = bytesOf(storage);
    const map = this.#driver.encodeTensorMap({
      address,
      storage,
      sizes: [columns, rows, count],
      strides: [columns * size, rows * columns * size],
      box: [ROW_BYTES / size, boxRows, boxMatrices],
    });
    known.push({ rows, columns, count, boxRows, boxMatrices, storage, map });
    this.#count++;
    return map;
  }
}
