/**
 * The order of an epoch: a keyed permutation that is evaluated at one index, in constant time and without any list.
 *
 * A Feistel network over the smallest power of two that holds the domain, with cycle walking: an image outside the
 * domain is permuted again until it falls inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
 */

import { invariant, type RandomKey, randomPair } from '@sluice/core';

const ROUNDS = 8;

/**
 * The image of `index` under a permutation of the whole numbers in [0, size).
 * @param key the stream that decides which permutation it is
 * @param size number of elements, from 1 to 2^48
 */
export function permute(key: RandomKey, size: number, index: number): number {
  invariant(index >= 0 && index < size && size <= 2 ** 48, `permute: index ${index} of ${size}`);
  const bits = bitLength(size - 1);
  let image = index;
  do image = feistel(key, bits, image);
  while (image >= size);
  return image;
}

/** A permutation of [0, 2^bits). The halves differ by a bit when `bits` is odd; they change places every round. */
function feistel(key: RandomKey, bits: number, value: number): number {
  let leftBits = bits >> 1;
  let rightBits = bits - leftBits;
  let left = Math.floor(value / 2 ** rightBits);
  let right = value % 2 ** rightBits;
  for (let round = 0; round < ROUNDS; round++) {
    const mask = 2 ** leftBits - 1;
    const mixed = (left ^ (randomPair(key, round * 2 ** 32 + right)[0] & mask)) >>> 0;
    left = right;
    right = mixed;
    [leftBits, rightBits] = [rightBits, leftBits];
  }
  return left * 2 ** rightBits + right;
}

/** Number of binary digits of a whole number; 0 for 0. */
function bitLength(value: number): number {
  let bits = 0;
  while (2 ** bits <= value) bits++;
  return bits;
}
