/** What the live page is told of runs: which there are, how it is with them, and what happened. */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { statusAfterStep } from '../../launcher/src/coordinator/tellStatus.ts';
import type { JournalEntry } from '../../launcher/src/run/journal.ts';
import { readLiveStatus } from '../../launcher/src/run/liveStatus.ts';
import { acquireLock } from '../../launcher/src/run/lock.ts';
import { storyOf } from '../../launcher/src/run/story.ts';
import { FileCatalog } from '../../launcher/src/watch/catalog.ts';
import { findRuns } from '../../launcher/src/watch/findRuns.ts';
import { listOnce } from '../../launcher/src/watch/watch.ts';
import { WatchedRunFiles } from '../../launcher/src/watch/watchedRun.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const CONFIG = (steps: number, rate: number) => `seed: 1
model: { vocabularySize: 320, hiddenSize: 32, numLayers: 1, numAttentionHeads: 2, numKeyValueHeads: 1, headDim: 16, intermediateSize: 32 }
data: { recipe: recipe.yaml, sequenceLength: 32 }
training: { steps: ${steps} }
batch: { sequences: 8, grainSequences: 1 }
optimizer: { learningRate: ${rate} }
`;

function makeRun(path: string, entries: readonly object[] = [], config = CONFIG(100, 1e-3)): string {
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'config.yaml'), config);
  const time = '2026-11-29T14:00:00.000Z';
  writeFileSync(
    join(path, 'journal.jsonl'),
    entries.map((entry) => `${JSON.stringify({ step: 0, time, ...entry })}\n`).join(''),
  );
  return path;
}

const watched = (path: string) => new WatchedRunFiles({ path, name: 'run', group: undefined });

test('runs are found as named, in folders, and in the folders of experiments, each once', async (t) => {
  const root = temporaryDirectory(t);
  for (const path of ['runs/a', 'runs/group/b', 'experiments/runs/0123/run', 'runs/a/checkpoints/no']) {
    makeRun(join(root, path));
  }
  const found = findRuns([join(root, 'runs', 'a'), join(root, 'runs'), join(root, 'experiments')]);
  t.deepEqual(
    found.map(({ name, group }) => [name, group]),
    [
      ['a', undefined],
      ['b', 'group'],
      ['0123', 'runs'],
    ],
  );
  const { code } = await failureOf(Promise.resolve().then(() => new FileCatalog([join(root, 'none')])));
  t.is(code, 'SLUICE_E_FILE_MISSING');
});

test('runs and experiments come and go while one looks', (t) => {
  const root = temporaryDirectory(t);
  let now = 0;
  const catalog = new FileCatalog([root], () => now);
  const names = () => {
    now += 10_000;
    return [...catalog.runs(), ...catalog.experiments()].map(({ name }) => name);
  };
  t.deepEqual(names(), []);
  makeRun(join(root, 'run'));
  mkdirSync(join(root, 'table4-tiny'));
  writeFileSync(join(root, 'table4-tiny', 'results.json'), '{}');
  t.deepEqual(names(), ['run', 'table4-tiny']);
  for (const name of ['run', 'table4-tiny']) rmSync(join(root, name), { recursive: true });
  t.deepEqual(names(), []);
});

test('listed once, runs have the paths that other commands take', async (t) => {
  const root = temporaryDirectory(t);
  const paths = ['runs/a', 'experiments/runs/0123/run'].map((path) => makeRun(join(root, path)));
  const { json, text } = await listOnce([join(root, 'runs'), join(root, 'experiments')]);
  t.deepEqual(
    (json.runs as { path: string }[]).map(({ path }) => path),
    paths,
  );
  for (const path of paths) t.true(text.includes(`${path} `), text);
});

function stateOf(t: ExecutionContext, ...entries: object[]): string {
  return watched(makeRun(join(temporaryDirectory(t), 'run'), entries)).brief().status.state;
}

test('how it is with a run follows from its journal and its lock', (t) => {
  const start = { kind: 'start', workers: 1, expertParallel: 1 };
  t.is(stateOf(t, start, { kind: 'stop', reason: 'finished' }), 'finished');
  t.is(stateOf(t, start, { kind: 'stop', reason: 'signal' }), 'stopped');
  t.is(stateOf(t, start, { kind: 'stop', reason: 'failed', message: 'why' }), 'failed');
  t.is(stateOf(t, start), 'killed');
  const path = makeRun(join(temporaryDirectory(t), 'run'), [start]);
  const run = watched(path);
  const lock = acquireLock(join(path, 'lock'));
  t.is(run.brief().status.state, 'running');
  lock.release();
  writeFileSync(
    join(path, 'lock'),
    JSON.stringify({ pid: 1, host: hostname(), started: 'then', token: 'x' }),
  );
  t.is(run.brief().status.state, 'killed');
});

test('a run is told with its steps, and with what another one was told otherwise', async (t) => {
  const root = temporaryDirectory(t);
  const evaluated = { kind: 'evaluate', step: 50, loss: 4.5, tokens: 10 };
  const [run, other] = [
    watched(makeRun(join(root, 'a'), [evaluated])),
    watched(makeRun(join(root, 'b'), [], CONFIG(200, 1e-3))),
  ];
  t.like(run.brief(), { steps: 100, validationLoss: 4.5, spikes: 0, rollbacks: 0 });
  const { differences, title, parameters } = await run.facts(other);
  t.deepEqual(differences?.rows, [{ key: 'training.steps', own: 100, others: 200 }]);
  t.is(title, 'run');
  t.true(parameters!.total > 0);
  t.not(run.id, other.id);
});

test('the journal is told as a story: what was decided, and why', (t) => {
  const event = { step: 7, signal: 'loss', value: 9.5, median: 3.25, excess: 6.25, score: 12 };
  const first = { signal: 'gradientNorm.router', step: 5, ratio: 5, score: 10 };
  const decision = { step: 9, root: 5, to: 4, level: 1, rateFactor: 0.5, rateUntil: 30, nextSample: 90 };
  const entries = [
    { kind: 'start', workers: 2, expertParallel: 1 },
    { kind: 'save', path: 'checkpoints/step-00000004' },
    { kind: 'commit', path: 'checkpoints/step-00000004', weights: '0123456789abcdef' },
    { kind: 'spike', event: { ...event, first }, skipped: true },
    { kind: 'rollback', decision, leftOut: [40, 90] },
    {
      kind: 'restart',
      code: 'SLUICE_E_WORKER_LOST',
      message: 'Worker 1 is gone',
      workers: 1,
      expertParallel: 1,
      fromMemory: true,
    },
    { kind: 'nonFinite', loss: 'NaN', gradientNorm: 'Infinity', inARow: 2 },
    { kind: 'stop', reason: 'finished' },
    { kind: 'somethingNew' },
  ].map((entry) => ({ step: 9, time: '2026-11-29T14:00:00.000Z', ...entry })) as unknown as JournalEntry[];
  t.deepEqual(
    storyOf(entries).map(({ tone, text }) => `${tone}: ${text}`),
    [
      'plain: The run began on 2 workers.',
      'good: Saved checkpoints/step-00000004, weights 0123456789ab.',
      'warning: Spike: loss 9.500 over a median of 3.250; it began with gradient norm of router ×5.00 at step 5. The update was left out.',
      'warning: Went back to step 4, as a spike began at step 5. 50 samples are left out for good: 40–89. The learning rate is 0.5 of the scheduled one to step 30.',
      'error: Worker 1 is gone. The run goes on from copies in memory on 1 worker.',
      'warning: Loss NaN, gradient norm Infinity: the update was left out (2 in a row).',
      'good: The run finished.',
    ],
  );
});

test('how the workers are is told at the first step, and then every two seconds', async (t) => {
  const path = temporaryDirectory(t);
  writeFileSync(join(path, 'config.yaml'), '');
  let now = 0;
  let step = 1;
  const worker = { rank: 0, host: 'here', pid: 7, doing: 'step' };
  const report = () => ({ step, doing: 'step', restarts: 0, workers: [worker], hosts: [] }) as never;
  const tell = statusAfterStep(
    path,
    { report },
    6.5,
    () => {},
    () => now,
  );
  const seconds = { total: 2, compute: 1, waiting: 0.5, communicate: 0.25, optimize: 0.25 };
  for (now = 0; now <= 2500; now += 500) {
    await tell({} as never, { ranks: [seconds] } as never);
    step++;
  }
  const told = readLiveStatus(path)!;
  t.is(told.step, 5);
  t.is(told.unigramLoss, 6.5);
  t.deepEqual(told.workers, [{ ...worker, own: 1.5, waiting: 0.5, heardAgo: null }]);
});
