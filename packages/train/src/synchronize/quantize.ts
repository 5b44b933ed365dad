/**
 * Values rounded to 8 bits, with a scale for each group of neighbours: x ≈ scale · q, q from −127 to 127, scale the largest magnitude of
 * the group ÷ 127. What is encoded is the scales, then the bytes. A group with a number that is not finite comes out as NaN, so that it is
 * seen.
 */

/** Values that share a scale. */
export const GROUP_VALUES = 256;

/** Bytes that so many values take. */
export function encodedBytes(values: number): number {
  return values === 0 ? 0 : 4 * Math.ceil(values / GROUP_VALUES) + values;
}

export function encode(values: Float32Array): Uint8Array {
  const encoded = new Uint8Array(encodedBytes(values.length));
  const groups = Math.ceil(values.length / GROUP_VALUES);
  const scales = new Float32Array(encoded.buffer, 0, groups);
  const bytes = new Int8Array(encoded.buffer, 4 * groups, values.length);
  for (let group = 0; group < groups; group++) {
    const begin = group * GROUP_VALUES;
    const end = Math.min(begin + GROUP_VALUES, values.length);
    let largest = 0;
    for (let i = begin; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
    const scale = Math.fround(largest / 127);
    scales[group] = Number.isFinite(scale) ? scale : Number.NaN;
    if (!(scale > 0) || scale === Number.POSITIVE_INFINITY) continue;
    for (let i = begin; i < end; i++) {
      // A scale below the normal numbers is rounded itself, so that a quotient can be a little above.
      bytes[i] = Math.max(-127, Math.min(127, Math.round(values[i]! / scale)));
    }
  }
  return encoded;
}

/** @param encoded of as many values as `target` has; its bytes may lie anywhere */
export function decode(encoded: Uint8Array, target: Float32Array): void {
  const groups = Math.ceil(target.length / GROUP_VALUES);
  // Views of floats must be aligned.
  const scales = new Float32Array(encoded.slice(0, 4 * groups).buffer);
  const bytes = new Int8Array(encoded.buffer, encoded.byteOffset + 4 * groups, target.length);
  for (let i = 0; i < target.length; i++) target[i] = scales[Math.floor(i / GROUP_VALUES)]! * bytes[i]!;
}
