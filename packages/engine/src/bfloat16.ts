/**
 * Sums whose partial sums can travel as bfloat16, the upper half of a float (to nearest, ties to even). Wherever two partial sums are added,
 * both are rounded first, and added in single precision; the sum of all is not rounded. So it does not matter which of them travel.
 */

import { invariant } from '@sluice/core';
import { callNative, nativeCore } from './native.ts';

/** Sources that one call of the kernel takes. */
const MOST_SOURCES = 30;

/** Rounds to the upper halves of floats. Not a number stays that; what is too large becomes infinite. */
export function roundToBfloat16(values: Float32Array, result: Uint16Array): void {
  invariant(result.length === values.length, `${values.length} values do not fill ${result.length}`);
  if (nativeCore()) {
    callNative('roundToBfloat16', values.length, values, result);
    return;
  }
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++) {
    const value = bits[i]!;
    const nearest = value + 0x7fff + ((value >>> 16) & 1);
    result[i] = (Number.isNaN(values[i]) ? value | 0x400000 : nearest) >>> 16;
  }
}

/** Adds `source` to `target`, both rounded. */
export function addRounded(target: Float32Array, source: Float32Array): void {
  invariant(source.length === target.length, `${source.length} values cannot be added to ${target.length}`);
  if (nativeCore()) {
    callNative('addRounded', target.length, target, source);
    return;
  }
  const [a, b] = [asRounded(target), asRounded(source)];
  for (let i = 0; i < target.length; i++) target[i] = a[i]! + b[i]!;
}

/** Writes the sum of rounded values to `target`. It is formed by halves as by `sumTree`; so is a group's sum of those of its ranks. */
export function sumTreeBfloat16(target: Float32Array, sources: readonly Uint16Array[]): void {
  for (const source of sources) {
    invariant(source.length === target.length, `${source.length} values cannot be added to ${target.length}`);
  }
  invariant(sources.length > 0, 'a sum needs a source');
  if (sources.length === 1) {
    target.set(fromBfloat16(sources[0]!));
  } else if (nativeCore() && sources.length <= MOST_SOURCES) {
    callNative('sumTreeBfloat16', target.length, target, ...sources);
  } else {
    let left = 1;
    while (left * 2 < sources.length) left *= 2;
    const right = new Float32Array(target.length);
    sumTreeBfloat16(right, sources.slice(left));
    sumTreeBfloat16(target, sources.slice(0, left));
    addRounded(target, right);
  }
}

function asRounded(values: Float32Array): Float32Array {
  const halves = new Uint16Array(values.length);
  roundToBfloat16(values, halves);
  return fromBfloat16(halves);
}

function fromBfloat16(halves: Uint16Array): Float32Array {
  const bits = Uint32Array.from(halves, (half) => half * 0x10000);
  return new Float32Array(bits.buffer);
}
