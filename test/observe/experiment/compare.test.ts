import { compareRows, perplexityOf, summarizeRows } from '@sluice/observe';
import test from 'ava';
import fc from 'fast-check';
import { anyResults, diverged, results, row, run } from './support/results.ts';

const near = (a: number | undefined, b: number, within = 1e-9) => a !== undefined && Math.abs(a - b) < within;

test('differences are paired by seed: what seeds have in common drops out', (t) => {
  // The seeds differ by whole nats, the rows by a tenth.
  const runs = [1, 2, 3].flatMap((seed) => [
    run('baseline', seed, { validationLoss: 3 + seed }),
    run('gate', seed, { validationLoss: 2.9 + seed }),
  ]);
  const [comparison, ...others] = compareRows(results({ runs }));
  t.deepEqual(others, [], 'a baseline is not compared with itself');
  const { loss, perplexity, pairs, unpaired } = comparison!;
  t.deepEqual([pairs.map(({ seed }) => seed), unpaired], [[1, 2, 3], []]);
  t.true(near(loss!.mean, -0.1) && near(loss!.spread, 0, 1e-6));
  t.true(near(loss!.interval!.low, -0.1, 1e-6) && near(loss!.interval!.high, -0.1, 1e-6));
  t.deepEqual([loss!.below, loss!.above, loss!.seeds], [3, 0, 3]);
  const expected = [1, 2, 3].map((seed) => Math.exp(2.9 + seed) - Math.exp(3 + seed));
  t.true(near(perplexity!.mean, (expected[0]! + expected[1]! + expected[2]!) / 3));
});

test('a run that diverged enters no mean and no difference, and is named with its step', (t) => {
  const runs = [
    run('baseline', 1, { validationLoss: 4 }),
    diverged('baseline', 2, 120),
    run('baseline', 3, { validationLoss: 4.5 }),
    run('gate', 1, { validationLoss: 3.75 }),
    run('gate', 2, { validationLoss: 3.5 }),
    run('gate', 3, { outcome: 'failed', step: 17, validationLoss: 3 }),
  ];
  const made = results({ runs });
  const [baseline, gate] = summarizeRows(made);
  t.deepEqual(baseline!.outcomes, { finished: 2, diverged: 1, failed: 0, pending: 0 });
  t.deepEqual(baseline!.validationLoss, { mean: 4.25, spread: Math.sqrt(0.125), seeds: 2 });
  t.is(gate!.validationLoss!.mean, 3.625, 'a loss that a failed run left behind is none of a finished run');
  const [{ pairs, unpaired, loss }] = compareRows(made) as [ReturnType<typeof compareRows>[number]];
  t.deepEqual(pairs, [{ seed: 1, difference: -0.25 }]);
  t.deepEqual(unpaired, [
    { seed: 2, reason: 'its baseline diverged at step 120' },
    { seed: 3, reason: 'it failed at step 17' },
  ]);
  t.deepEqual(loss, { mean: -0.25, spread: undefined, seeds: 1, interval: undefined, below: 1, above: 0 });
});

test('missing and pending runs, and a baseline that is not there, leave nothing to compare', (t) => {
  const rows = [row('baseline'), row('gate'), row('lost', { baseline: 'nobody' })];
  const runs = [run('baseline', 1), run('gate', 2, { outcome: 'pending', step: 0, validationLoss: null })];
  const made = results({ rows, runs, seeds: [1, 2] });
  t.deepEqual(
    summarizeRows(made).map(({ missing }) => missing),
    [[2], [1], [1, 2]],
  );
  const [gate, lost] = compareRows(made);
  t.deepEqual(gate!.unpaired, [
    { seed: 1, reason: 'it has no run' },
    { seed: 2, reason: 'it has not run yet, its baseline has no run' },
  ]);
  t.is(gate!.loss, undefined);
  t.is(lost!.baseline, undefined);
});

test('a finished run without held-out text is told apart from one that did not finish', (t) => {
  const runs = [run('baseline', 1, { validationLoss: null }), run('gate', 1)];
  const [gate] = compareRows(results({ runs, seeds: [1] }));
  t.is(gate!.unpaired[0]!.reason, 'its baseline has no loss on held-out text');
  t.is(perplexityOf(runs[0]!), null);
});

test('of any results every seed is paired or named, and means are of finished runs only', (t) => {
  const holds = fc.property(anyResults, (made) => {
    const complete = compareRows(made).every(
      ({ pairs, unpaired }) => pairs.length + unpaired.length === made.seeds.length,
    );
    const bounded = summarizeRows(made).every(
      ({ validationLoss, outcomes }) => (validationLoss?.seeds ?? 0) <= outcomes.finished,
    );
    return complete && bounded;
  });
  t.notThrows(() => fc.assert(holds));
});

test('the same results have the same intervals, whatever else is in the experiment', (t) => {
  const seeds = Array.from({ length: 12 }, (_, i) => i + 1);
  const runs = seeds.flatMap((seed) => [
    run('baseline', seed, { validationLoss: 4 + Math.sin(seed) }),
    run('gate', seed, { validationLoss: 3.9 + Math.sin(seed) + 0.05 * Math.cos(3 * seed) }),
  ]);
  const [alone] = compareRows(results({ seeds, runs }));
  const more = results({ seeds, runs, rows: [row('baseline'), row('other'), row('gate')] });
  const among = compareRows(more).find(({ row: { name } }) => name === 'gate');
  t.is(alone!.loss!.interval!.method, 'bca');
  t.deepEqual(among!.loss, alone!.loss);
});
