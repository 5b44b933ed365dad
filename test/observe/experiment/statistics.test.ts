import { randomKey, randomUniform } from '@sluice/core';
import { bootstrapInterval, meanInterval } from '@sluice/observe';
import test from 'ava';
import fc from 'fast-check';
import {
  mean,
  normalQuantile,
  normalShare,
  spread,
} from '../../../packages/observe/src/experiment/statistics.ts';

const KEY = randomKey(1, 'test');

/** Standard normal numbers, by the inverse of the share below. */
function normals(purpose: string, count: number): number[] {
  const key = randomKey(7, purpose);
  return Array.from({ length: count }, (_, i) => normalQuantile(randomUniform(key, i)));
}

/** Of samples drawn anew, the share whose interval holds the truth. */
function coverage(draw: (sample: number) => number[], truth: number, samples: number): number {
  let held = 0;
  for (let sample = 0; sample < samples; sample++) {
    const { low, high } = meanInterval(draw(sample), randomKey(sample, 'coverage'))!;
    if (low <= truth && truth <= high) held++;
  }
  return held / samples;
}

/** Share of Student's t below x, by integrating its density with Simpson's rule from 0 on. */
function studentShare(x: number, freedom: number): number {
  const density = (t: number) => (1 + (t * t) / freedom) ** (-(freedom + 1) / 2);
  const integral = (to: number, parts: number) => {
    const width = to / parts;
    let sum = density(0) + density(to);
    for (let i = 1; i < parts; i++) sum += density(i * width) * (i % 2 === 1 ? 4 : 2);
    return (sum * width) / 3;
  };
  // Γ(½)·Γ(ν/2)/Γ((ν + 1)/2)·√ν is twice the integral over the positive half.
  const gamma = (half: number): number =>
    half === 1 ? Math.sqrt(Math.PI) : half === 2 ? 1 : (half / 2 - 1) * gamma(half - 2);
  const whole = (Math.sqrt(freedom * Math.PI) * gamma(freedom)) / gamma(freedom + 1);
  return 0.5 + integral(x, 20_000) / whole;
}

test('the mean and the spread are those of a sample', (t) => {
  t.is(mean([1, 2, 6]), 3);
  t.is(spread([1, 2, 6]), Math.sqrt((4 + 1 + 9) / 2));
  t.is(spread([5]), undefined);
  t.true(Number.isNaN(mean([])));
});

test('one value has no interval; from two on it is Student’s t, from ten on the bootstrap’s', (t) => {
  t.is(meanInterval([4], KEY), undefined);
  t.is(meanInterval([], KEY), undefined);
  const three = meanInterval([1, 2, 3], KEY)!;
  t.is(three.method, 't');
  // 4.3027 · 1 ÷ √3 to either side.
  t.true(Math.abs(three.low - (2 - 2.48414)) < 1e-4 && Math.abs(three.high - (2 + 2.48414)) < 1e-4);
  t.is(meanInterval(normals('nine', 9), KEY)!.method, 't');
  t.is(meanInterval(normals('ten', 10), KEY)!.method, 'bca');
});

test('an interval of Student’s t leaves a fortieth to either side', (t) => {
  for (let count = 2; count <= 9; count++) {
    const sample = Array.from({ length: count }, (_, i) => (i % 2 === 0 ? 1 : -1) * (i + 1));
    const { high } = meanInterval(sample, KEY)!;
    const quantile = ((high - mean(sample)) * Math.sqrt(count)) / spread(sample)!;
    const share = studentShare(quantile, count - 1);
    t.true(Math.abs(share - 0.975) < 1e-7, `${count} values: ${share}`);
  }
});

test('of normal samples, 95 in 100 intervals hold the truth: of three values, of five and of twelve', (t) => {
  for (const count of [3, 5, 12]) {
    const samples = count < 10 ? 4000 : 200;
    const all = normals(`coverage ${count}`, count * samples);
    const share = coverage((sample) => all.slice(sample * count, (sample + 1) * count), 0, samples);
    // The bootstrap is known to be too narrow for so few.
    const [low, high] = count < 10 ? [0.94, 0.96] : [0.87, 0.98];
    t.true(share > low && share < high, `${count} values: ${share}`);
  }
});

test('the bootstrap follows a skewed sample, and says the same of the same key', (t) => {
  const skewed = normals('skew', 40).map((z) => Math.exp(z));
  const found = meanInterval(skewed, KEY)!;
  t.deepEqual(meanInterval(skewed, KEY), found);
  t.notDeepEqual(meanInterval(skewed, randomKey(2, 'test')), found);
  const middle = mean(skewed);
  t.true(found.high - middle > middle - found.low, 'further to where the sample has its tail');
});

test('the bootstrap takes any statistic', (t) => {
  const median = (sample: readonly number[]) =>
    sample.toSorted((a, b) => a - b)[Math.floor(sample.length / 2)]!;
  const { low, high } = bootstrapInterval([...normals('median', 30), 1e9], median, KEY)!;
  t.true(low > -1 && high < 1, 'an outlier moves no median');
});

test('shares and quantiles of the normal distribution are each other’s inverse', (t) => {
  t.true(Math.abs(normalShare(1.959963985) - 0.975) < 1e-7);
  t.is(normalShare(0).toFixed(7), '0.5000000');
  const inverse = fc.property(fc.double({ min: 1e-5, max: 1 - 1e-5, noNaN: true }), (share) => {
    return Math.abs(normalShare(normalQuantile(share)) - share) < 1e-6;
  });
  t.notThrows(() => fc.assert(inverse));
});

const values = (least: number, most: number) =>
  fc.array(fc.double({ min: -100, max: 100, noNaN: true }), { minLength: least, maxLength: most });

test('an interval holds the mean, and shifts and scales with the values', (t) => {
  const holds = fc.property(values(2, 9), fc.double({ min: -50, max: 50, noNaN: true }), (sample, shift) => {
    const found = meanInterval(sample, KEY)!;
    const moved = meanInterval(
      sample.map((value) => 2 * value + shift),
      KEY,
    )!;
    const near = (a: number, b: number) => Math.abs(a - b) < 1e-6;
    const middle = mean(sample);
    return (
      found.low <= middle + 1e-9 &&
      middle <= found.high + 1e-9 &&
      near(moved.low, 2 * found.low + shift) &&
      near(moved.high, 2 * found.high + shift)
    );
  });
  t.notThrows(() => fc.assert(holds));
});

test('a bootstrap interval lies within the values, in order, and values that are all alike leave it no width', (t) => {
  const holds = fc.property(values(10, 20), (sample) => {
    const { low, high } = meanInterval(sample, KEY)!;
    return low <= high && low >= Math.min(...sample) - 1e-9 && high <= Math.max(...sample) + 1e-9;
  });
  t.notThrows(() => fc.assert(holds, { numRuns: 20 }));
  t.deepEqual(meanInterval(Array<number>(12).fill(3), KEY), { low: 3, high: 3, method: 'bca' });
});

test('values too large to compute with have no interval', (t) => {
  t.is(meanInterval([1e308, 1e308, -1e308], KEY), undefined);
});
