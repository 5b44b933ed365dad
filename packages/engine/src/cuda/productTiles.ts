/**
 * Which kernel computes a product: the tile of the result that a block computes at a time decides it. No bit depends on it, so it may
 * depend on the card. Those of `matmul.cu` and `expertProducts.cu` are for all; a Hopper has others besides (`hopperProduct.h`).
 */

import type { Activations, CudaDevice } from './device.ts';
import type { TensorMap } from './tensorMaps.ts';

/** Sizes of a product: y [M, N], summed over K. */
export interface ProductShape {
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

export interface TileOfProduct {
  readonly rows: number;
  readonly columns: number;
  /** Of the kernel's struct. */
  readonly sharedBytes: number;
  readonly isHopper: boolean;
  /**
   * Share of a Hopper's tensor cores that it keeps busy at best, estimated: about 0.6 is what `mma.sync` is reported to reach, a half
   * with tiles that load twice as much. Of warpgroups, shared memory reads and writes as many bytes as it can for 256 columns, and a
   * quarter more for 128.
   */
  readonly rate: number;
}

/** Stages · rows of both operands · 64 steps of k · 2 bytes. */
const stages = (count: number, rows: number, columns: number) => count * (rows + columns) * 64 * 2;
/** Two barriers for each of at most six stages, up to where tiles begin. */
const BARRIER_BYTES = 1024;

export const TILES = {
  Small: { rows: 64, columns: 64, sharedBytes: stages(2, 64, 64), isHopper: false, rate: 0.5 },
  Large: { rows: 128, columns: 128, sharedBytes: stages(3, 128, 128), isHopper: false, rate: 0.6 },
  HopperSmall: {
    ...{ rows: 128, columns: 128, isHopper: true, rate: 0.8 },
    sharedBytes: stages(6, 128, 128) + BARRIER_BYTES,
  },
  HopperLarge: {
    ...{ rows: 128, columns: 256, isHopper: true, rate: 1 },
    sharedBytes: stages(4, 128, 256) + BARRIER_BYTES,
  },
} satisfies Readonly<Record<string, TileOfProduct>>;
export type Tile = keyof typeof TILES;
const NAMES = Object.keys(TILES) as Tile[];

/** Results of the same size, each of one product. */
export interface Results {
  readonly count: number;
  readonly rows: number;
  readonly columns: number;
}

/**
 * The tile that a device takes. On a Hopper: the one whose blocks take the least time, by turns of all multiprocessors, since a tile that
 * is not filled costs as much as one that is. Elsewhere: the larger one of two where it gives the multiprocessors enough to do.
 */
export function tileFor(
  results: Results,
  { isHopper, multiprocessors }: Pick<CudaDevice, 'isHopper' | 'multiprocessors'>,
): Tile {
  const { count, rows, columns } = results;
  const blocksOf = (tile: TileOfProduct) =>
    count * Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns);
  if (!isHopper) {
    const isEnough = blocksOf(TILES.Large) >= 2 * multiprocessors;
    return isEnough && rows > 64 && columns > 64 ? 'Large' : 'Small';
  }
  const timeOf = (name: Tile) => {
    const tile = TILES[name];
    return (Math.ceil(blocksOf(tile) / multiprocessors) * tile.rows * tile.columns) / tile.rate;
  };
  // Of equals the larger.
  return NAMES.reduce((best, name) => (timeOf(name) <= timeOf(best) ? name : best));
}

/** Operands of a product on a Hopper, of which the left one has M rows and the right one N: whether each lies along k, and the matrices. */
export interface MappedOperand {
  readonly array: Activations;
  /** Rows of the result that it has, and the length of k. */
  readonly rows: number;
  readonly depth: number;
  readonly isAlong: boolean;
  /** 1 if nothing is said. */
  readonly matrices?: number;
}

/** The map by which `tileRows` rows of an operand, or panels of 64 of them, come with 64 steps of k. */
export function mapOf(
  { array, rows, depth, isAlong, matrices: count = 1 }: MappedOperand,
  tileRows: number,
): TensorMap {
  const { tensorMaps } = array.device;
  return isAlong
    ? tensorMaps.of(array, { rows, columns: depth, count }, tileRows)
    : tensorMaps.of(array, { rows: depth, columns: rows, count }, 64);
}
