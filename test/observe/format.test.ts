import {
  counted,
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  formatNumber,
  formatRate,
  formatSeconds,
  maxViolation,
  relativeExpertLoad,
  renderLossCurve,
  StepClock,
  terminalTable,
} from '@sluice/observe';
import test from 'ava';
import fc from 'fast-check';

test('counts have grouped digits when small and three digits and a unit when large', (t) => {
  const cases: [number, string][] = [
    [0, '0'],
    [999, '999'],
    [9876, '9,876'],
    [9999.6, '10.0 k'],
    [12345, '12.3 k'],
    [999_600, '1.00 M'],
    [7_060_000, '7.06 M'],
    [1.5e9, '1.50 B'],
    [-20_000, '-20.0 k'],
    [Number.NaN, '–'],
  ];
  for (const [value, text] of cases) t.is(formatCount(value), text);
});

test('one of something is no plural', (t) => {
  t.deepEqual(
    [0, 1, 1200].map((count) => counted(count, 'step')),
    ['0 steps', '1 step', '1,200 steps'],
  );
});

test('bytes are written in binary units', (t) => {
  t.is(formatBytes(512), '512 B');
  t.is(formatBytes(1024), '1.00 KiB');
  t.is(formatBytes(812 * 2 ** 20), '812 MiB');
  t.is(formatBytes(1023.9 * 2 ** 20), '1.00 GiB');
  t.is(formatBytes(1.5 * 2 ** 30), '1.50 GiB');
  t.is(formatBytes(Number.NaN), '–');
});

test('durations have at most two units and never sixty of one', (t) => {
  const cases: [number, string][] = [
    [0, '0 s'],
    [0.27, '270 ms'],
    [0.9996, '1.00 s'],
    [2e-5, '20.0 µs'],
    [9.4, '9 s'],
    [59.6, '1m 00s'],
    [65, '1m 05s'],
    [3599.7, '1h 00m'],
    [7620, '2h 07m'],
    [48 * 3600 - 1, '2d 00h'],
    [76 * 3600, '3d 04h'],
    [Number.POSITIVE_INFINITY, '–'],
    [-1, '–'],
  ];
  for (const [seconds, text] of cases) t.is(formatDuration(seconds), text);
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e7, noNaN: true }), (seconds) => {
      t.notRegex(formatDuration(seconds), /(^| )60|h 60|24h$/);
      if (seconds > 0)
        for (const text of [formatDuration, formatSeconds]) t.notRegex(text(seconds), /^[0.]+ /);
    }),
  );
});

test('losses, rates and other numbers', (t) => {
  t.is(formatLoss(4.56789), '4.5679');
  t.is(formatLoss(Number.NaN), '–');
  t.is(formatRate(0.00186), '1.86e-3');
  t.is(formatRate(0), '0');
  t.deepEqual([0.5234, 13.42, 812.3, 123456, 0.0004, 0].map(formatNumber), [
    '0.52',
    '13.4',
    '812',
    '1.2e+5',
    '4.0e-4',
    '0.00',
  ]);
});

test('the violation is zero for equal loads and the mean over the layers otherwise', (t) => {
  t.is(maxViolation([[0.25, 0.25, 0.25, 0.25]]), 0);
  t.is(
    maxViolation([
      [0.5, 0.5, 0, 0],
      [0.25, 0.25, 0.25, 0.25],
    ]),
    0.5,
  );
  t.is(maxViolation([[1, 0, 0, 0]]), 3);
  t.is(maxViolation([[0, 0]]), 0);
  t.is(maxViolation(undefined), Number.NaN);
  t.deepEqual(
    relativeExpertLoad([
      [0.5, 0.5, 0, 0],
      [30, 10, 0, 0],
    ]),
    [2.5, 1.5, 0, 0],
  );
});

test('the time left is the pace of the last steps times the steps that remain', (t) => {
  const clock = new StepClock();
  t.is(clock.secondsLeft(100), undefined);
  clock.tick(1, 50);
  t.is(clock.secondsLeft(100), undefined, 'the start-up says nothing about the pace');
  clock.tick(2, 52);
  t.is(clock.secondsPerStep, 2);
  t.is(clock.secondsLeft(100), 196);
  t.is(clock.secondsLeft(100, 53.5), 194.5, 'time since the last step counts');
  t.is(clock.secondsLeft(100, 99), 194, 'but never more than a step');
  clock.tick(3, 56);
  t.is(clock.secondsLeft(100), 97 * 3);
  t.is(clock.secondsLeft(3), 0);
  t.is(clock.secondsLeft(2), 0);
});

test('the time left counts the larger steps that are to come', (t) => {
  // Steps are worth 1 up to the 4th, and 10 from the 5th on.
  const clock = new StepClock((step) => Math.min(step, 4) + 10 * Math.max(0, step - 4));
  clock.tick(1, 10);
  clock.tick(3, 14);
  t.is(clock.secondsPerStep, 2);
  t.is(clock.secondsLeft(6), 2 * (1 + 20));
  clock.tick(4, 16);
  t.is(clock.secondsLeft(6, 31), 2 * 20 - 15);
  t.is(clock.secondsLeft(6, 99), 2 * 10);
});

test('the estimate forgets how slow the run once was, and starts anew after a roll-back', (t) => {
  const clock = new StepClock();
  for (let step = 1; step <= 10; step++) clock.tick(step, step * 100);
  for (let step = 11; step <= 211; step++) clock.tick(step, 1000 + (step - 10));
  t.is(clock.secondsPerStep, 1);
  clock.tick(150, 2000);
  t.is(clock.secondsPerStep, undefined);
  clock.tick(151, 2004);
  t.is(clock.secondsLeft(161), 40);
});

test('a loss curve fits into its frame and survives flat, short and non-finite series', (t) => {
  const decay = Array.from({ length: 500 }, (_, step) => 9 * Math.exp(-step / 100));
  const lines = renderLossCurve(decay, { width: 60, height: 8 }).split('\n');
  t.true(lines.length >= 8 && lines.length <= 10, `${lines.length} lines`);
  t.true(lines.every((line) => line.length <= 60));
  t.regex(lines.at(-1) ?? '', /^ +step 1 +500$/);
  t.is(renderLossCurve([Number.NaN], { width: 60, height: 8 }), '');
  t.regex(renderLossCurve([2.3, 2.3, Number.NaN, 2.3], { width: 60, height: 8 }), /^2\.30┼──\n/);
});

test('a table has aligned columns and no trailing blanks', (t) => {
  const text = terminalTable(
    [
      ['validation', '3.14'],
      ['unigram', '16.95'],
    ],
    { header: ['loss', 'nats'], align: ['left', 'right'] },
  );
  t.is(text, 'loss         nats\nvalidation   3.14\nunigram     16.95');
});

test('a step time has three digits, in the unit that suits it', (t) => {
  t.deepEqual([0.0149, 0.00012, 0.9999, 0.85, 1.244, 61.2, 999.9, 0, Number.NaN].map(formatSeconds), [
    '14.9 ms',
    '120 µs',
    '1.00 s',
    '850 ms',
    '1.24 s',
    '61.2 s',
    '16m 40s',
    '0 s',
    '–',
  ]);
});
