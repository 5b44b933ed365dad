/**
 * Counter-based random numbers: a number is a pure function of (key, counter). No hidden state, so any worker can
 * draw any number of any stream, and a resumed run draws the same ones.
 *
 * The generator is Philox 2x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 */

import { createHash } from 'node:crypto';
import { log, sinCos } from './elementary.ts';

const PHILOX_M = 0xd256d193;
const PHILOX_W = 0x9e3779b9;

/** A stream of random numbers, named by a seed and a purpose. */
export interface RandomKey {
  readonly low: number;
  readonly high: number;
}

/**
 * Derives the key of one stream. Different purposes give independent streams.
 * @param seed the run's seed
 * @param purpose what the numbers are for, e.g. `['init', 'model.norm.weight']` or `['order', epoch]`
 */
export function randomKey(seed: number, ...purpose: readonly (string | number)[]): RandomKey {
  const digest = createHash('sha256')
    .update(JSON.stringify([seed, ...purpose]))
    .digest();
  return { low: digest.readUInt32LE(0), high: digest.readUInt32LE(4) };
}

/** High 32 bits of the 64-bit product of two unsigned 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/**
 * One block of the generator: two independent unsigned 32-bit numbers for `counter` in the stream `key`.
 * @param counter a whole number from 0 to 2^53 − 1
 */
export function randomPair(key: RandomKey, counter: number): [number, number] {
  let x0 = counter >>> 0;
  let x1 = (Math.floor(counter / 0x100000000) ^ key.high) >>> 0;
  let k = key.low >>> 0;
  for (let round = 0; round < 10; round++) {
    const high = multiplyHigh(PHILOX_M, x0);
    const low = Math.imul(PHILOX_M, x0) >>> 0;
    x0 = (high ^ k ^ x1) >>> 0;
    x1 = low;
    k = (k + PHILOX_W) >>> 0;
  }
  return [x0, x1];
}

/** A number in [0, 1) with 53 random bits. */
export function randomUniform(key: RandomKey, counter: number): number {
  const [a, b] = randomPair(key, counter);
  return ((a >>> 5) * 0x4000000 + (b >>> 6)) / 0x20000000000000;
}

/**
 * Fills `target[i]` with the standard normal number of index `offset + i` of the stream (Box–Muller), times `scale`.
 * Elements do not depend on how a tensor is cut: filling in parts gives the same numbers.
 */
export function fillNormal(key: RandomKey, target: Float32Array, scale: number, offset = 0): void {
  // Each pair of uniforms gives two normals: the cosine branch for an even index, the sine branch for the odd one after it.
  for (let i = 0; i < target.length; ) {
    const index = offset + i;
    const [a, b] = randomPair(key, Math.floor(index / 2));
    const radius = Math.sqrt(-2 * log((a + 0.5) / 0x100000000));
    const [sin, cos] = sinCos((2 * Math.PI * b) / 0x100000000);
    if (index % 2 === 0) target[i++] = scale * radius * cos;
    if (i < target.length) target[i++] = scale * radius * sin;
  }
}
