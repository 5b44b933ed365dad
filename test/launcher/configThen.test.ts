import type { RunConfig } from '@sluice/train';
import test from 'ava';
import { configThen } from '../../launcher/src/run/configThen.ts';
import type { JournalEntry } from '../../launcher/src/run/journal.ts';
import { smallConfig } from './support/config.ts';

type Change = Extract<JournalEntry, { kind: 'resume' }>['changes'][number];

const start = smallConfig();
const { learningRate } = start.optimizer;

function resumed(step: number, ...changes: Change[]): JournalEntry {
  return { kind: 'resume', step, changes } as unknown as JournalEntry;
}

function withRate(rate: number): RunConfig {
  return { ...start, optimizer: { ...start.optimizer, learningRate: rate } };
}

function rate(saved: number, now: number): Change {
  return { key: 'optimizer.learningRate', saved, now, allowed: true };
}

test('each step has the configuration that it was taken with', (t) => {
  const journal = [resumed(10, rate(learningRate, 2)), resumed(20), resumed(30, rate(2, 3))];
  const rates = [1, 10, 11, 30, 31].map(
    (step) => configThen(withRate(3), journal, step).optimizer.learningRate,
  );
  t.deepEqual(rates, [learningRate, learningRate, 2, 2, 3]);
});

test('what was changed in a future that was given up is not taken back', (t) => {
  const journal = [resumed(30, rate(learningRate, 5)), resumed(20, rate(learningRate, 3))];
  t.is(configThen(withRate(3), journal, 15).optimizer.learningRate, learningRate);
  t.is(configThen(withRate(3), journal, 25).optimizer.learningRate, 3);
});

test('a key that was unset before is unset again, and what changes no bit stays', (t) => {
  const now = {
    ...start,
    optimizer: { ...start.optimizer, groups: { embedding: { learningRateScale: 0.5 } } },
    parallel: { ...start.parallel, workers: 4 },
  } as RunConfig;
  const journal = [
    resumed(
      10,
      { key: 'optimizer.groups.embedding.learningRateScale', saved: undefined, now: 0.5, allowed: true },
      { key: 'parallel.workers', saved: 1, now: 4, allowed: false },
    ),
  ];
  const then = configThen(now, journal, 10);
  t.is(then.optimizer.groups?.embedding?.learningRateScale, undefined);
  t.is(then.parallel.workers, 4);
});
