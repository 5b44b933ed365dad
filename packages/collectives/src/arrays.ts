/** The arrays that collectives work on, and their allocation in memory that the communication thread shares. */

import { SluiceError } from '@sluice/core';
import { makeSharedFloats } from '@sluice/engine/memory';

/** What a collective can carry. Integers add modulo their width. */
export type CollectiveArray = Float32Array | Float64Array | Int32Array | Uint8Array;

/** Elements [start, end) of a buffer; may be empty. */
export interface ElementRange {
  readonly start: number;
  readonly end: number;
}

/** What messages carry: the elements of arrays, or floats rounded to bfloat16, which no array is of. */
export const DATA_TYPES = ['float32', 'float64', 'int32', 'uint8', 'bfloat16'] as const;
export type DataType = (typeof DATA_TYPES)[number];
/** Those that arrays are of. */
export type ArrayType = Exclude<DataType, 'bfloat16'>;

/** How the floats of a sum travel. */
export type FloatWire = 'float32' | 'bfloat16';

export function dataTypeOf(array: CollectiveArray): ArrayType {
  if (array instanceof Float32Array) return 'float32';
  if (array instanceof Float64Array) return 'float64';
  if (array instanceof Int32Array) return 'int32';
  return 'uint8';
}

/** An array of type `dataType` over `length` elements of existing bytes, which must be aligned for it. */
export function arrayOver(
  dataType: ArrayType,
  buffer: ArrayBufferLike,
  byteOffset: number,
  length: number,
): CollectiveArray {
  switch (dataType) {
    case 'float32':
      return new Float32Array(buffer, byteOffset, length);
    case 'float64':
      return new Float64Array(buffer, byteOffset, length);
    case 'int32':
      return new Int32Array(buffer, byteOffset, length);
    case 'uint8':
      return new Uint8Array(buffer, byteOffset, length);
  }
}

/** The bytes of elements [start, end) of `array`, in place. */
export function bytesOf(array: CollectiveArray, start = 0, end = array.length): Uint8Array {
  const width = array.BYTES_PER_ELEMENT;
  return new Uint8Array(array.buffer, array.byteOffset + start * width, (end - start) * width);
}

/** Bytes of what lies in `ranges`, as it travels. */
export function wireBytes(
  buffer: CollectiveArray,
  ranges: readonly ElementRange[],
  wire: FloatWire = 'float32',
): number {
  const width = wire === 'bfloat16' ? Uint16Array.BYTES_PER_ELEMENT : buffer.BYTES_PER_ELEMENT;
  return width * ranges.reduce((sum, { start, end }) => sum + end - start, 0);
}

/** What an all-to-all demands of the own ranges. */
export const SENDS_ITSELF = 'a rank sends to itself what it receives from itself';

/** For each of the counts, so many elements, one range after the other from element 0. */
export function consecutiveRanges(counts: readonly number[]): ElementRange[] {
  let end = 0;
  return counts.map((count) => {
    end += count;
    return { start: end - count, end };
  });
}

/** Refuses ranges that are not one per rank, or do not lie within the buffer. */
export function checkRanges(ranges: readonly ElementRange[], size: number, length: number): void {
  if (ranges.length !== size) {
    throw new SluiceError(
      'SLUICE_E_COLLECTIVE_MISMATCH',
      `Got ${ranges.length} ranges for a group of ${size} ranks; each rank needs one.`,
    );
  }
  for (const [rank, { start, end }] of ranges.entries()) {
    if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= length)) {
      throw new SluiceError(
        'SLUICE_E_COLLECTIVE_MISMATCH',
        `Range [${start}, ${end}) of rank ${rank} does not lie within the buffer of ${length} elements.`,
      );
    }
  }
}

/** A zeroed array of `length` elements in shared memory, aligned for vectors where the C++ core can tell. */
export const sharedFloat32: (length: number) => Float32Array = makeSharedFloats;

/** A zeroed array of `length` elements in shared memory. */
export function sharedFloat64(length: number): Float64Array {
  return new Float64Array(new SharedArrayBuffer(length * 8));
}

/** A zeroed array of `length` elements in shared memory. */
export function sharedInt32(length: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(length * 4));
}
