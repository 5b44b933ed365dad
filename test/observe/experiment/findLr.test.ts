import { summarizeLargestStable } from '@sluice/observe';
import test from 'ava';
import fc from 'fast-check';

const seeds = (...rates: (number | null)[]) => rates.map((largestStable) => ({ largestStable }));

test('the summary of a variant is the geometric mean and spread of the seeds that have a largest stable rate', (t) => {
  const summary = summarizeLargestStable(seeds(1e-3, null, 4e-3));
  t.is(summary.seeds, 2);
  t.true(Math.abs(summary.largestStable! - 2e-3) < 1e-12);
  // The logarithms stand ln 2 from their mean: √((ln²2 + ln²2) ÷ 1).
  t.true(Math.abs(summary.spread! - Math.exp(Math.SQRT2 * Math.LN2)) < 1e-9);
});

test('without a stable rate, and with a single one, the summary claims no more than was seen', (t) => {
  t.deepEqual(summarizeLargestStable(seeds(null, null)), { largestStable: null, spread: null, seeds: 0 });
  const one = summarizeLargestStable(seeds(0.003));
  t.is(one.spread, null);
  t.is(one.largestStable, 0.003);
});

test('the mean lies between the extremes and the spread is a factor of at least 1', (t) => {
  const rate = fc.double({ min: 1e-8, max: 10, noNaN: true });
  const holds = fc.property(fc.array(rate, { minLength: 2, maxLength: 12 }), (rates) => {
    const { largestStable, spread } = summarizeLargestStable(seeds(...rates));
    const [low, high] = [Math.min(...rates), Math.max(...rates)];
    return largestStable! >= low * (1 - 1e-9) && largestStable! <= high * (1 + 1e-9) && spread! >= 1;
  });
  t.notThrows(() => fc.assert(holds));
});
