import test from 'ava';
import fc from 'fast-check';
import { medianInPlace } from '../../packages/train/src/median.ts';

test('the median is that of the sorted values, however they stand and however often they come', (t) => {
  const values = fc.oneof(
    fc.array(fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e9, max: 1e9 }), { minLength: 1 }),
    fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 1, maxLength: 200 }),
  );
  t.notThrows(() =>
    fc.assert(
      fc.property(values, (list) => {
        const sorted = Float64Array.from(list).sort();
        const middle = sorted.length >> 1;
        const expected = sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
        const given = Float64Array.from(list);
        // Zeros of either sign are the same number.
        return (
          medianInPlace(given) + 0 === expected + 0 && given.sort().every((x, i) => x + 0 === sorted[i]! + 0)
        );
      }),
      { numRuns: 500 },
    ),
  );
});
