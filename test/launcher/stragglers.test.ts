import type { StepSeconds } from '@sluice/train';
import test from 'ava';
import {
  type StragglerFinding,
  StragglerWatch,
  stragglerLine,
} from '../../launcher/src/coordinator/stragglers.ts';

/** A step in which each worker computes for so long, optimizes for `optimize`, and waits for the slowest. */
function step(
  compute: readonly number[],
  optimize: readonly number[] = compute.map(() => 0.1),
): StepSeconds[] {
  const total = Math.max(...compute.map((seconds, rank) => seconds + optimize[rank]!)) + 0.05;
  return compute.map((seconds, rank) => ({
    ...{ total, compute: seconds, optimize: optimize[rank]!, communicate: 0.05 },
    waiting: total - seconds - optimize[rank]! - 0.05,
  }));
}

function observeAll(watch: StragglerWatch, steps: readonly StepSeconds[][], seconds = 2): StragglerFinding[] {
  return steps.flatMap((ranks) => watch.observe(ranks, seconds));
}

const times = (count: number, compute: readonly number[]) =>
  Array.from({ length: count }, () => step(compute));

test('a worker that is slow for long is named once, with what it is slow at, and again when it is no more', (t) => {
  const watch = new StragglerWatch();
  const [found, ...more] = observeAll(watch, times(100, [1, 1, 1.5, 1]));
  t.deepEqual(more, []);
  t.like(found, { rank: 2, isSlow: true, at: 'computing' });
  t.true(Math.abs(found!.ratio - 1.65 / 1.15) < 1e-9);
  const after = observeAll(watch, times(100, [1, 1, 1, 1]));
  t.deepEqual(
    after.map(({ rank, isSlow }) => [rank, isSlow]),
    [[2, false]],
  );
});

test('a slow update is told from slow computing', (t) => {
  const watch = new StragglerWatch();
  const slow = Array.from({ length: 50 }, () => step([1, 1, 1], [0.1, 0.9, 0.1]));
  t.like(observeAll(watch, slow)[0], { rank: 1, at: 'the optimizer' });
});

test('of two workers the slower one is named', (t) => {
  const watch = new StragglerWatch();
  t.deepEqual(
    observeAll(watch, times(50, [2, 1])).map(({ rank }) => rank),
    [0],
  );
});

test('neither one slow step, nor a short time, nor taking turns makes a straggler', (t) => {
  const spike = new StragglerWatch();
  t.deepEqual(observeAll(spike, [...times(40, [1, 1]), step([60, 1]), ...times(40, [1, 1])]), []);
  t.deepEqual(observeAll(new StragglerWatch(), times(31, [1, 9])), []);
  t.deepEqual(observeAll(new StragglerWatch(), times(6000, [0.001, 0.009]), 0.01), [], 'less than a minute');
  const turns = Array.from({ length: 200 }, (_, i) =>
    step([0, 1, 2, 3].map((rank) => (i % 4 === rank ? 2 : 1))),
  );
  t.deepEqual(observeAll(new StragglerWatch(), turns), []);
  t.deepEqual(observeAll(new StragglerWatch(), times(100, [1.2, 1, 1, 1])), []);
  t.deepEqual(observeAll(new StragglerWatch(), times(100, [1])), []);
});

test('the line says who, how much and at what', (t) => {
  const finding = { rank: 2, isSlow: true, ratio: 1.5, ownSeconds: 1.65, usualSeconds: 1.1, at: 'computing' };
  t.is(
    stragglerLine('h2/2', finding),
    'h2/2 is slow: for more than a minute its own work has taken 1.50 times as long as usual (1.65 s a step, not 1.10 s), most of all computing; the others wait for it',
  );
});
