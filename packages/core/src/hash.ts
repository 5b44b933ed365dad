/** Content hashes: SHA-256 over bytes, and a block-wise hash whose value does not depend on how a tensor is sharded. */

import { createHash } from 'node:crypto';

/** Elements in one block of a tensor. Shards are cut only between blocks, so that every owner can hash its own. */
export const BLOCK_ELEMENTS = 4096;

/** Hexadecimal SHA-256 of bytes or text. */
export function sha256(data: string | ArrayBufferView): string {
  return createHash('sha256')
    .update(data as NodeJS.ArrayBufferView | string)
    .digest('hex');
}

/**
 * SHA-256 of each block of up to `BLOCK_ELEMENTS` elements of a whole tensor or of a block-aligned piece of one.
 * @returns lower-case hexadecimal digests, in order
 */
export function blockHashes(values: Float32Array): string[] {
  const hashes: string[] = [];
  for (let start = 0; start < values.length; start += BLOCK_ELEMENTS) {
    hashes.push(sha256(values.subarray(start, Math.min(start + BLOCK_ELEMENTS, values.length))));
  }
  return hashes;
}

/** The content hash of a logical tensor from the hashes of all its blocks, in order. */
export function combineBlockHashes(hashes: readonly string[]): string {
  return sha256(hashes.join(''));
}
