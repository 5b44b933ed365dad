/**
 * Elementary functions whose results are the same bits in every version of Node on every CPU. JavaScript prescribes +, −, ×, ÷
 * and the square root to the last bit, but not `Math.sin`, `Math.exp` and their like. Whatever enters weights (initial
 * values, rotary angles, schedules, the optimizer's corrections) is computed by these, which are made of the former.
 * Relative errors are below 1e-15 unless it says otherwise.
 */

const bits = new DataView(new ArrayBuffer(8));

/** The high 32 bits of a number: sign, 11 bits of exponent, the first 20 of the fraction. */
function highBits(x: number): number {
  bits.setFloat64(0, x);
  return bits.getUint32(0);
}

/** 2^n for whole n from −1022 to 1023. */
function powerOfTwo(n: number): number {
  bits.setUint32(0, (n + 1023) << 20);
  bits.setUint32(4, 0);
  return bits.getFloat64(0);
}

// ln 2 and π/2 in parts. The first ones end in zeros, so that their products with whole numbers (of up to 11 and 24 bits) are
// exact, and what is left after a range reduction is too.
const LN2_HIGH = 0.6931471804855391;
const LN2_LOW = 7.440617110012397e-11;
const HALF_PI = [1.570796325802803, 9.920935774287987e-10, 2.2517417741562176e-18] as const;

/** coefficients[0] + coefficients[1]·x + … */
function polynomial(x: number, coefficients: readonly number[]): number {
  let sum = 0;
  for (let i = coefficients.length - 1; i >= 0; i--) sum = sum * x + coefficients[i]!;
  return sum;
}

/** 1/first!, 1/(first + step)!, … with alternating signs where `sign` is −1. */
function inverseFactorials(first: number, step: number, count: number, sign: 1 | -1): readonly number[] {
  const factorial = (n: number): number => (n < 2 ? 1 : n * factorial(n - 1));
  return Array.from({ length: count }, (_, i) => (i % 2 === 1 ? sign : 1) / factorial(first + step * i));
}

/** The natural logarithm: −∞ at 0, NaN below. With x = m·2^e, m about 1, s = (m − 1)/(m + 1): e·ln 2 + 2·(s + s³/3 + …). */
export function log(x: number): number {
  if (!(x > 0)) return x === 0 ? Number.NEGATIVE_INFINITY : Number.NaN;
  if (x === Number.POSITIVE_INFINITY) return x;
  // Denormal numbers are brought to size first.
  if (x < 2 ** -1022) return log(x * 2 ** 54) - 54 * (LN2_HIGH + LN2_LOW);
  let exponent = (highBits(x) >>> 20) - 1023;
  let m = x * powerOfTwo(-Math.max(-1022, Math.min(1022, exponent)));
  if (m >= 2) m *= 0.5; // Only where the exponent is 1023.
  if (m > Math.SQRT2) {
    m *= 0.5;
    exponent++;
  }
  const s = (m - 1) / (m + 1);
  const square = s * s;
  return (
    exponent * LN2_HIGH + (2 * s + (2 * s * square * polynomial(square, LOG_SERIES) + exponent * LN2_LOW))
  );
}
const LOG_SERIES = Array.from({ length: 10 }, (_, i) => 1 / (2 * i + 3));

/** e^x: ∞ above 709.79, 0 below −745.2. With x = n·ln 2 + r: 2^n·(1 + r + r²/2! + …). */
export function exp(x: number): number {
  if (!(x < 709.79)) return x > 0 ? Number.POSITIVE_INFINITY : Number.NaN;
  if (x < -745.2) return 0;
  const n = Math.round(x / LN2_HIGH);
  const r = x - n * LN2_HIGH - n * LN2_LOW;
  const half = Math.trunc(n / 2);
  return polynomial(r, EXP_SERIES) * powerOfTwo(half) * powerOfTwo(n - half);
}
const EXP_SERIES = inverseFactorials(0, 1, 15, 1);

/**
 * base^exponent of a positive base: by squaring for whole exponents of up to a million, otherwise e^(exponent·ln base), whose
 * relative error is |exponent·ln base| times larger.
 */
export function power(base: number, exponent: number): number {
  if (!Number.isInteger(exponent) || Math.abs(exponent) > 1e6) return exp(exponent * log(base));
  let product = 1;
  let square = base;
  for (let rest = Math.abs(exponent); rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) product *= square;
    square *= square;
  }
  return exponent < 0 ? 1 / product : product;
}

/**
 * The sine and cosine of an angle in radians up to 2^23·π/2, with an absolute error below 2e-16 (and of a multiple of π/2,
 * below that times the multiple). With angle = n·π/2 + r, |r| ≤ π/4.
 */
export function sinCos(angle: number): [sin: number, cos: number] {
  const n = Math.round(angle / (Math.PI / 2));
  const r = angle - n * HALF_PI[0] - n * HALF_PI[1] - n * HALF_PI[2];
  const square = r * r;
  const sine = r + r * square * polynomial(square, SIN_SERIES);
  const cosine = polynomial(square, COS_SERIES);
  switch (((n % 4) + 4) % 4) {
    case 0:
      return [sine, cosine];
    case 1:
      return [cosine, -sine];
    case 2:
      return [-sine, -cosine];
    default:
      return [-cosine, sine];
  }
}
const SIN_SERIES = inverseFactorials(3, 2, 8, -1).map((coefficient) => -coefficient);
const COS_SERIES = inverseFactorials(0, 2, 9, -1);

export const sin = (angle: number): number => sinCos(angle)[0];
export const cos = (angle: number): number => sinCos(angle)[1];
