/** Rounding 32-bit floats to 16-bit ones, to the nearest, ties to even. */

/** What 16-bit types are called in safetensors. */
export type HalfType = 'F16' | 'BF16';

/**
 * Rounds floats. Infinities and NaNs stay what they are.
 * @returns the bits of the halves, and the index of the first finite value that became infinite; −1 for none
 */
export function roundToHalf(
  values: Float32Array,
  type: HalfType,
): { readonly bits: Uint16Array; readonly overflow: number } {
  const source = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const round = type === 'BF16' ? roundToBrain : roundToIeee;
  const infinity = type === 'BF16' ? 0x7f80 : 0x7c00;
  const bits = new Uint16Array(values.length);
  let overflow = -1;
  for (let i = 0; i < source.length; i++) {
    const half = round(source[i]!);
    bits[i] = half;
    if (overflow < 0 && (half & 0x7fff) === infinity && Number.isFinite(values[i])) overflow = i;
  }
  return { bits, overflow };
}

const EXPONENT = 0x7f800000;

function isNaNBits(float: number): boolean {
  return (float & 0x7fffffff) > EXPONENT;
}

/** A brain float is the upper half of a single-precision one. */
function roundToBrain(float: number): number {
  // A quiet NaN; rounding could carry it over into a number.
  if (isNaNBits(float)) return (float >>> 16) | 0x40;
  return (float + 0x7fff + ((float >>> 16) & 1)) >>> 16;
}

function roundToIeee(float: number): number {
  const sign = (float >>> 16) & 0x8000;
  if (isNaNBits(float)) return sign | 0x7e00;
  const magnitude = float & 0x7fffffff;
  // From 65520 on, half-way to what would be the next number, and for infinities.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // Normal numbers: exponents are 112 lower, and 13 bits of the fraction go. A carry rightly raises the exponent.
  if (magnitude >= 0x38800000) {
    return sign | ((magnitude - (112 << 23) + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  // Subnormal ones are whole multiples of 2^-24, and below half of that nothing is left.
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const kept = fraction >>> shift;
  const rest = fraction - kept * 2 ** shift;
  const half = 2 ** (shift - 1);
  return sign | (rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept);
}
