/** Arithmetic on flat memory of a device: parameters, gradients, moments (`kernels/flat.cu`, `adamW.cu`, `squaredNorms.cu`). */

import { BLOCK_ELEMENTS, invariant } from '@sluice/core';
import { type AdamWSettings, adamWCoefficients } from '../adamW.ts';
import { roundToBfloat16 } from '../bfloat16.ts';
import { bytesOf, type DeviceArray, type Kernel } from './device.ts';
import type { Grid } from './driver.ts';

type Floats = DeviceArray<'f32'>;

/** Elements of one block of threads. */
const ELEMENTS_OF_BLOCK = 1024;
const COLUMNS_OF_BLOCK = 256;
/** Two sums for each of eight warps. */
const SHARED_BYTES = 64;
/** Sources that one launch of `sumTree` takes. */
const MOST_SOURCES = 32;

function blocks(count: number, ofBlock: number): Grid {
  return [Math.ceil(count / ofBlock)];
}

function flat(name: string, { device }: DeviceArray): Kernel {
  return device.kernel('flat', name);
}

function sameLength(...arrays: DeviceArray[]): number {
  const [{ length }, ...others] = arrays as [DeviceArray, ...DeviceArray[]];
  for (const other of others)
    invariant(other.length === length, `${other.length} values on a device do not go with ${length}`);
  return length;
}

/** Writes one number everywhere, in whole numbers as in floats, of which bf16 takes the nearest. */
export function fill(target: DeviceArray<'f32' | 'bf16' | 'i32'>, value: number): void {
  const { storage, address, length, device } = target;
  if (storage === 'bf16') {
    const half = new Uint16Array(1);
    roundToBfloat16(Float32Array.of(value), half);
    device.driver.fillHalves(address, half[0]!, length);
    return;
  }
  const word = storage === 'i32' ? value >>> 0 : new Uint32Array(Float32Array.of(value).buffer)[0]!;
  device.driver.fill(address, word, length);
}

/** Copies on the device. */
export function copy(target: DeviceArray, source: DeviceArray): void {
  invariant(target.storage === source.storage, `${source.storage} cannot be copied to ${target.storage}`);
  const bytes = sameLength(target, source) * bytesOf(target.storage);
  target.device.driver.copy(target.address, source.address, bytes);
}

/** x ← factor · x */
export function scale(x: Floats, factor: number): void {
  if (x.length > 0) flat('scale', x).launch(blocks(x.length, ELEMENTS_OF_BLOCK), 0, x, x.length, factor);
}

/** y ← y + factor · x, in one rounding */
export function addScaled(y: Floats, x: Floats, factor: number): void {
  const length = sameLength(y, x);
  if (length > 0) flat('addScaled', y).launch(blocks(length, ELEMENTS_OF_BLOCK), 0, y, x, length, factor);
}

/** y ← y + x, both rounded to bf16 before. */
export function addRounded(y: Floats, x: Floats): void {
  const length = sameLength(y, x);
  if (length > 0) flat('addRounded', y).launch(blocks(length, ELEMENTS_OF_BLOCK), 0, y, x, length);
}

/** To the nearest bf16, of two the even one. */
export function narrow(target: DeviceArray<'bf16'>, source: Floats): void {
  const length = sameLength(target, source);
  if (length > 0) flat('narrow', target).launch(blocks(length, ELEMENTS_OF_BLOCK), 0, target, source, length);
}

export function widen(target: Floats, source: DeviceArray<'bf16'>): void {
  const length = sameLength(target, source);
  if (length > 0) flat('widen', target).launch(blocks(length, ELEMENTS_OF_BLOCK), 0, target, source, length);
}

/**
 * Writes the sum of `sources`, 32 at most, to `target`, which may be one of them. The order is that of `sumTree` on a host:
 * ((0+1)+(2+3))+((4+5)+6).
 */
export function sumTree(target: Floats, sources: readonly Floats[]): void {
  invariant(
    sources.length > 0 && sources.length <= MOST_SOURCES,
    `${sources.length} sources of a sum on a device`,
  );
  const length = sameLength(target, ...sources);
  const addresses = new BigUint64Array(MOST_SOURCES);
  for (const [i, { address }] of sources.entries()) addresses[i] = BigInt(address);
  const grid = blocks(length, ELEMENTS_OF_BLOCK);
  if (length > 0) flat('sumTree', target).launch(grid, 0, target, addresses, sources.length, length);
}

/** Writes, or adds, the sum of the rows of `parts` [rows, width], from first to last, to `target` [width]. */
export function sumRows(target: Floats, parts: Floats, accumulate: boolean): void {
  const width = target.length;
  const rows = width === 0 ? 0 : parts.length / width;
  invariant(Number.isInteger(rows), `${parts.length} values are no rows of ${width}`);
  const grid = blocks(width, COLUMNS_OF_BLOCK);
  if (width > 0) flat('sumRows', target).launch(grid, 0, target, parts, rows, width, Number(accumulate));
}

/** The sums of squares of the blocks of `values`, in double precision, to `norms` [⌈length / blockElements⌉]. */
export function squaredNorms(
  norms: DeviceArray<'f64'>,
  values: Floats,
  blockElements = BLOCK_ELEMENTS,
): void {
  const { length, device } = values;
  const grid = blocks(length, blockElements);
  invariant(norms.length === grid[0], `${norms.length} norms for ${grid[0]} blocks`);
  if (length > 0)
    device
      .kernel('squaredNorms', 'squaredNorms')
      .launch(grid, SHARED_BYTES, values, norms, length, blockElements);
}

/** Ranges of equal length; all but the gradients are changed. */
export interface AdamWArrays {
  /** Master weights. */
  readonly parameters: Floats;
  readonly gradients: Floats;
  readonly firstMoment: Floats;
  readonly secondMoment: Floats;
  /** Gets the new parameters, rounded, where there is one. */
  readonly weights?: DeviceArray<'bf16'>;
}

/**
 * One AdamW update in place: parameters and moments get the bits that `adamW` gives them on a host with `native`.
 * @param sums [2 · blocks of BLOCK_ELEMENTS] as `adamW` describes them, added up in another order
 */
export function adamW(arrays: AdamWArrays, settings: AdamWSettings, sums: DeviceArray<'f64'>): void {
  const { parameters, gradients, firstMoment, secondMoment, weights } = arrays;
  const length = sameLength(parameters, gradients, firstMoment, secondMoment, ...(weights ? [weights] : []));
  const grid = blocks(length, BLOCK_ELEMENTS);
  invariant(sums.length === 2 * grid[0], `${sums.length} sums for ${grid[0]} blocks`);
  const coefficients = Float32Array.from(adamWCoefficients(settings));
  if (length === 0) return;
  const kernel = parameters.device.kernel('adamW', 'adamW');
  const values = [parameters, gradients, firstMoment, secondMoment, weights ?? null, sums];
  kernel.launch(grid, SHARED_BYTES, ...values, length, BLOCK_ELEMENTS, coefficients);
}
