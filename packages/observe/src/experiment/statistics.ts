/**
 * Means, and how sure one may be of them, from as few numbers as an experiment has seeds.
 *
 * Intervals are of 95 %. Which kind depends on n, the number of values:
 * - n = 1: none. One value says nothing of how far another would lie from it.
 * - n from 2 to 9: Student's t. It is exact where the values are spread normally, which so few can neither show nor refute, and
 *   wide: for n = 3, 2.5 spreads to either side. A bootstrap would look better and be worse: of three values 1 in 27 resamples is
 *   the smallest one thrice, so that its interval is their range, which holds the median of a distribution three times in four.
 * - n from 10 on: the bootstrap, bias-corrected and accelerated (BCa; Efron, "Better bootstrap confidence intervals", JASA 82, 1987).
 *   It supposes no shape, and is still somewhat too narrow while n is below twenty or so.
 */

import { elementary, type RandomKey, randomUniform } from '@sluice/core';

export interface Interval {
  readonly low: number;
  readonly high: number;
  readonly method: IntervalMethod;
}

export type IntervalMethod = 't' | 'bca';

/** What is to be known of an interval beside its ends, for whoever reads them. */
export const INTERVAL_METHODS: Readonly<Record<IntervalMethod, string>> = {
  t: '95 % interval of Student’s t: right if seeds spread normally, which fewer than ten cannot show',
  bca: '95 % interval of a BCa bootstrap: supposes no shape, somewhat too narrow below twenty seeds',
};

/** Fewest values for a bootstrap. */
const BOOTSTRAP_FROM = 10;

const RESAMPLES = 10_000;

/** 0.975 quantiles of Student's t for 1, 2, … degrees of freedom. */
const T_QUANTILES = [
  12.706204736, 4.30265273, 3.182446305, 2.776445105, 2.570581836, 2.446911851, 2.364624252, 2.306004135,
];

/** NaN of no values; of values that are all alike, that value to the last bit. */
export function mean(values: readonly number[]): number {
  if (values.length > 0 && values.every((value) => value === values[0])) return values[0]!;
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Standard deviation of a sample, with n − 1; undefined for fewer than two values. */
export function spread(values: readonly number[]): number | undefined {
  if (values.length < 2) return undefined;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}

/**
 * In which the mean of all that the values were drawn from lies, for 95 in 100 such samples (see above).
 * @param key of the random numbers of a bootstrap
 * @returns undefined for fewer than two values, and where they are too large to compute with
 */
export function meanInterval(values: readonly number[], key: RandomKey): Interval | undefined {
  const count = values.length;
  if (count < 2) return undefined;
  if (count >= BOOTSTRAP_FROM) return bootstrapInterval(values, mean, key);
  const half = (T_QUANTILES[count - 2]! * spread(values)!) / Math.sqrt(count);
  const middle = mean(values);
  return interval(middle - half, middle + half, 't');
}

/**
 * The BCa bootstrap's interval of any statistic.
 * @param statistic of a sample; the order of its values must not matter
 * @param key of the random numbers: the same key draws the same resamples
 */
export function bootstrapInterval(
  values: readonly number[],
  statistic: (sample: readonly number[]) => number,
  key: RandomKey,
  resamples = RESAMPLES,
): Interval | undefined {
  const count = values.length;
  const drawn = new Float64Array(resamples);
  const sample = new Array<number>(count);
  for (let resample = 0; resample < resamples; resample++) {
    for (let i = 0; i < count; i++) {
      sample[i] = values[Math.floor(randomUniform(key, resample * count + i) * count)]!;
    }
    drawn[resample] = statistic(sample);
  }
  drawn.sort();
  const found = statistic(values);
  // What equals the statistic counts half: of values that are all alike nothing lies below.
  const below = drawn.reduce((sum, value) => sum + (value < found ? 1 : value === found ? 0.5 : 0), 0);
  const bias = normalQuantile(Math.min(1 - 0.5 / resamples, Math.max(0.5 / resamples, below / resamples)));
  const acceleration = jackknifeAcceleration(values, statistic);
  const end = (z: number) => {
    const share = normalShare(bias + (bias + z) / (1 - acceleration * (bias + z)));
    return drawn[Math.min(resamples - 1, Math.floor(share * resamples))]!;
  };
  return interval(end(-Z_975), end(Z_975), 'bca');
}

function interval(low: number, high: number, method: IntervalMethod): Interval | undefined {
  return Number.isFinite(low) && Number.isFinite(high) ? { low, high, method } : undefined;
}

/** How fast the statistic's standard error changes with what it estimates: a sixth of the skewness of its jackknife values. */
function jackknifeAcceleration(
  values: readonly number[],
  statistic: (sample: readonly number[]) => number,
): number {
  const without = values.map((_, left) => statistic(values.filter((_, i) => i !== left)));
  const middle = mean(without);
  const squares = without.reduce((sum, value) => sum + (middle - value) ** 2, 0);
  const cubes = without.reduce((sum, value) => sum + (middle - value) ** 3, 0);
  return squares === 0 ? 0 : cubes / (6 * squares ** 1.5);
}

const Z_975 = 1.959963985;

/** Share of the standard normal distribution below z, to 1e-7 (Abramowitz and Stegun, 26.2.17). */
export function normalShare(z: number): number {
  const t = 1 / (1 + 0.2316419 * Math.abs(z));
  const series =
    t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  const above = (series * elementary.exp(-0.5 * z * z)) / Math.sqrt(2 * Math.PI);
  return z < 0 ? above : 1 - above;
}

/** Where the standard normal distribution has that share below it, to 1e-6, between −8 and 8. */
export function normalQuantile(share: number): number {
  let [low, high] = [-8, 8];
  for (let halving = 0; halving < 40; halving++) {
    const middle = (low + high) / 2;
    if (normalShare(middle) < share) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
