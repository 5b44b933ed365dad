import test from 'ava';
import fc from 'fast-check';
import { medianInPlace } from '../../packages/train/src/median.ts';
import { SlidingWindow } from '../../packages/train/src/slidingWindow.ts';

test('the median is that of the newest values, however they came and whatever came before', (t) => {
  const values = fc.array(
    fc.oneof(
      fc.integer({ min: -3, max: 3 }),
      fc.double({ noNaN: true, noDefaultInfinity: true, min: -9, max: 9 }),
    ),
    { minLength: 1, maxLength: 60 },
  );
  t.notThrows(() =>
    fc.assert(
      fc.property(values, fc.integer({ min: 1, max: 20 }), (list, limit) => {
        const window = new SlidingWindow();
        return list.every((value, i) => {
          window.push(value, limit);
          const newest = list.slice(0, i + 1).slice(-limit);
          const again = new SlidingWindow(window.values);
          return (
            newest.every((one, at) => one === window.values[at]) &&
            window.length === newest.length &&
            // Zeros of either sign are the same number.
            window.median + 0 === medianInPlace(Float64Array.from(newest)) + 0 &&
            again.median + 0 === window.median + 0
          );
        });
      }),
    ),
  );
});
