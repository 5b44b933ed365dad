import type { Rollback, SpikeEvent } from '@sluice/train';
import test from 'ava';
import type { JournalEntry, JournalKinds } from '../../launcher/src/run/journal.ts';
import { givenUpSteps, rollbacksOf } from '../../launcher/src/run/rollbacks.ts';
import { spikeHistory } from '../../launcher/src/run/spikeHistory.ts';

function entry<Kind extends keyof JournalKinds>(kind: Kind, step: number, fields: JournalKinds[Kind]) {
  return { kind, step, time: '', ...fields } as unknown as JournalEntry;
}

const spike = (step: number, root = step, skipped = false) => {
  const first = { signal: 'loss', step: root, ratio: 2, score: 9 } as const;
  const event: SpikeEvent = { step, signal: 'loss', value: 7, median: 4, excess: 3, score: 9, first };
  return entry('spike', step, { event, ...(skipped && { skipped }) });
};

const rollback = (step: number, to: number, nextSample = 8 * step) => {
  const decision: Rollback = {
    ...{ step, root: to + 1, to, level: 1, nextSample },
    ...{ rateFactor: 1, rateUntil: to },
  };
  return entry('rollback', step, { decision, leftOut: [8 * to, nextSample] });
};

const workers = { workers: 1, expertParallel: 1 };
const resume = (step: number, changed = false) =>
  entry('resume', step, {
    ...{ checkpoint: `checkpoints/step-${step}`, ...workers, refusedCheckpoints: [] },
    changes: changed ? [{ key: 'optimizer.learningRate', saved: 1, now: 0.5, allowed: true }] : [],
  });
const fromScratch = entry('resume', 0, { ...workers, refusedCheckpoints: [], changes: [] });

const told = (journal: readonly JournalEntry[]) =>
  spikeHistory(journal).map(({ start, end, skipped, rollback }) => [
    ...[start, end, skipped],
    ...(rollback ? [rollback.decision.to] : []),
  ]);

test('spikes that the run went back for stay, with what was decided', (t) => {
  const journal = [
    ...[spike(20), spike(41, 40, true), spike(43, 40, true), rollback(43, 25), spike(41, 40)],
    ...[spike(60, 60, true)],
  ];
  t.deepEqual(told(journal), [
    [20, 20, 0],
    [41, 43, 2, 25],
    [41, 41, 0],
    [60, 60, 1],
  ]);
});

test('spikes of steps that were taken again after a fault are told once', (t) => {
  const restart = entry('restart', 30, { checkpoint: 'c', code: '', message: '', ...workers });
  t.deepEqual(told([spike(20), spike(41), restart, spike(41), spike(50), resume(40), spike(41), spike(50)]), [
    [20, 20, 0],
    [41, 41, 0],
    [50, 50, 0],
  ]);
  // The decision holds for the run that goes on from before it: the spike does not come again.
  t.deepEqual(told([spike(43), rollback(43, 25), resume(10)]), [[43, 43, 0, 25]]);
});

test('spikes of steps that are taken again on the way back to a state are told once', (t) => {
  // Back to step 30 by way of a checkpoint of step 10.
  t.deepEqual(told([spike(20), spike(43), rollback(43, 30), spike(20), spike(50)]), [
    [43, 43, 0, 30],
    [20, 20, 0],
    [50, 50, 0],
  ]);
});

test('of a future that was given up with its configuration, nothing is told', (t) => {
  const save = (step: number) => entry('save', step, { path: '' });
  const early = [spike(20), rollback(20, 10), save(25)];
  const late = [spike(40), rollback(40, 30)];
  t.deepEqual(told([...early, ...late, resume(25)]), [
    [20, 20, 0, 10],
    [40, 40, 0, 30],
  ]);
  t.deepEqual(told([...early, ...late, resume(25, true)]), [[20, 20, 0, 10]]);
  t.deepEqual(told([...early, ...late, fromScratch]), []);
  t.deepEqual(givenUpSteps([...early, ...late, fromScratch]), []);
});

test('steps that were given up rest on the decisions before', (t) => {
  const journal = [rollback(20, 10), rollback(40, 30), rollback(35, 5)];
  t.deepEqual(
    givenUpSteps(journal).map(({ entry: { decision }, earlier }) => [
      decision.to,
      earlier.map(({ to }) => to),
    ]),
    [
      [10, []],
      [30, [10]],
      [5, [10, 30]],
    ],
  );
  t.deepEqual(
    rollbacksOf(journal).map(({ to }) => to),
    [5],
  );
});

test('a spike that the run stopped for says so, until the run goes on from before it', (t) => {
  const stop = entry('stop', 40, { reason: 'spike' });
  t.deepEqual(
    spikeHistory([spike(20), spike(40), stop]).map(({ isStop }) => isStop),
    [false, true],
  );
  t.deepEqual(
    spikeHistory([spike(40), stop, resume(30), spike(40)]).map(({ isStop }) => isStop),
    [false],
  );
});

test('numbers that were not finite come back from the journal as such', (t) => {
  const journal = JSON.parse(JSON.stringify([spike(20), spike(21, 20)])) as JournalEntry[];
  const events = journal as unknown as { event: { value: number | null; excess: number | null } }[];
  Object.assign(events[1]!.event, { value: null, excess: null, score: null });
  const [episode] = spikeHistory(journal);
  t.like(episode, { start: 20, end: 21, peak: 21, value: Number.NaN });
});

test('each spike of a long journal is looked at a few times, however many there are', (t) => {
  let looks = 0;
  const spikes = Array.from({ length: 500 }, (_, i) => {
    const one = spike(20 * i + 20);
    const { step } = one;
    return Object.defineProperty(one, 'step', {
      get: () => {
        looks++;
        return step;
      },
    });
  });
  t.is(spikeHistory(spikes).length, spikes.length);
  t.true(looks < 10 * spikes.length, String(looks));
});
