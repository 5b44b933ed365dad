import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import test, { type ExecutionContext } from 'ava';
import type { StagedCheckpoint } from '../../launcher/src/coordinator/checkpoints.ts';
import { Interludes } from '../../launcher/src/coordinator/interludes.ts';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import type { TrainingRun } from '../../launcher/src/coordinator/trainingRun.ts';
import { trainRun } from '../../launcher/src/coordinator/trainRun.ts';
import { openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { smallConfig } from './support/config.ts';
import { fakeWorkers } from './support/fakeWorkers.ts';
import { unwatched } from './support/unwatched.ts';

type Write = (step: number, attempt: number, ...rest: Parameters<StagedCheckpoint['write']>) => Promise<void>;

const noRoom = () => new SluiceError('SLUICE_E_DISK_FULL', 'No space left.');

/** A run of ten steps that saves every second one; `write` is what writing a staged state does. */
function setUp(
  t: ExecutionContext,
  write: Write,
  setting: Partial<TrainingRun> & { checkpoints?: Record<string, unknown> } = {},
) {
  const { checkpoints, ...rest } = setting;
  const path = join(temporaryDirectory(t), 'journal.jsonl');
  const journal = openJournal(path);
  t.teardown(() => journal.close());
  const workers = fakeWorkers();
  const { calls } = workers;
  const run: TrainingRun = {
    config: smallConfig({ checkpoint: { everySteps: 2, retrySeconds: 0, ...checkpoints } }),
    journal,
    observer: {
      activity: () => {},
      step: ({ result }) => calls.push(`report ${result.step}`),
      wentBack: () => {},
      saveRequested: (step) => calls.push(`requested ${step}`),
      saveStaged: (step) => calls.push(`staged ${step}`),
      saved: (step) => calls.push(`saved ${step}`),
      saveFailed: (step, reason, next) => calls.push(`unsaved ${step} ${reason} ${next}`),
    },
    stop: { requested: false },
    wantsRegroup: () => false,
    assertOwned: () => {},
    state: initialState({}),
    ...unwatched,
    afterStep: [],
    savedStep: -1,
    lastStep: 10,
    validates: false,
    recovery: () => ({ text: '', command: '' }),
    checkpoint: async ({ step }) => {
      calls.push(`checkpoint ${step}`);
      return { path: `step-${step}` };
    },
    async stage({ step }) {
      calls.push(`stage ${step}`);
      let attempts = 0;
      return {
        async write(between) {
          await write(step, ++attempts, between);
          return { path: `step-${step}`, step, weights: '' };
        },
      };
    },
    ...rest,
    workers,
  };
  const told = (kind: string) => calls.filter((call) => call.startsWith(`${kind} `));
  return { run, calls, told, entries: () => readJournal(path) };
}

/** Writes in as many interludes. */
const during =
  (interludes: number): Write =>
  async (_step, _attempt, between) => {
    for (let i = 0; i < interludes; i++) await between.ask(async () => {});
  };

test('training goes on while a staged state is written, and it is saved only when it is durable', async (t) => {
  const { run, calls, told, entries } = setUp(t, during(1), { lastStep: 3 });
  await trainRun(run);
  const at = (call: string) => calls.indexOf(call);
  t.true(at('staged 2') < at('step 3') && at('step 3') < at('saved 2'));
  t.deepEqual(told('saved'), ['saved 2', 'saved 3']);
  const kinds = entries().map(({ kind, step }) => `${kind} ${step}`);
  t.deepEqual(kinds, ['staged 2', 'stop 3']);
});

test('saves follow each other in order, one at a time, and the last step’s is waited for', async (t) => {
  const { run, calls, told } = setUp(t, during(8));
  t.is(await trainRun(run), 'finished');
  t.deepEqual(
    calls.filter((call) => /^(stage|saved) /.test(call)),
    [2, 4, 6, 8, 10].flatMap((step) => [`stage ${step}`, `saved ${step}`]),
  );
  t.deepEqual(told('checkpoint'), [], 'nothing is saved twice');
});

test('what the disk does not take is written again from the staged state, while training goes on', async (t) => {
  const { run, told, entries } = setUp(
    t,
    async (step, attempt) => {
      if (step === 2 && attempt < 3) throw noRoom();
    },
    { lastStep: 3 },
  );
  await trainRun(run);
  t.is(told('unsaved').length, 2);
  t.regex(told('unsaved')[0]!, /trying again \(1 of 3\)/);
  t.deepEqual(told('stage'), ['stage 2']);
  t.deepEqual(told('saved'), ['saved 2', 'saved 3']);
  t.like(
    entries().find(({ kind }) => kind === 'saveFailed'),
    { step: 2, isRetried: true },
  );
});

test('a save that has failed makes way for a newer one', async (t) => {
  const { run, told } = setUp(
    t,
    async (step) => {
      if (step < 6) throw noRoom();
    },
    { checkpoints: { retrySeconds: 1000 } },
  );
  t.is(await trainRun(run), 'finished');
  t.deepEqual(told('saved'), ['saved 6', 'saved 8', 'saved 10']);
});

test('a run that is to stop without a checkpoint stops when all attempts have failed', async (t) => {
  const { run, told } = setUp(
    t,
    async () => {
      throw noRoom();
    },
    { checkpoints: { onFailure: 'stop', attempts: 2 } },
  );
  const error = await t.throwsAsync(trainRun(run), { code: 'SLUICE_E_SAVE_FAILED' });
  t.regex(error.message, /Step \d+ could not be saved: No space left/);
  t.is(told('unsaved').length, 2);
  t.deepEqual(told('checkpoint'), []);
});

test('storage that is too slow costs checkpoints, not steps', async (t) => {
  let release = () => {};
  const slow = new Promise<void>((resolve) => {
    release = resolve;
  });
  const { run, calls, told } = setUp(t, (step) => (step === 2 ? slow : Promise.resolve()), {
    checkpoints: { slowSeconds: 0.01 },
    afterStep: [
      async (_, { result }) => {
        if (result.step === 7) release();
        await nextTurn();
      },
    ],
  });
  t.is(await trainRun(run), 'finished');
  t.deepEqual(told('stage'), ['stage 2', 'stage 8', 'stage 10']);
  t.is(told('unsaved').length, 2);
  t.regex(told('unsaved')[0]!, /^unsaved 4 Step 2 is still being written, after \d+ s\./);
  t.true(calls.indexOf('saved 2') > calls.indexOf('step 7'));
});

test('workers that fail while a state is written end the wait for them, with their fault', async (t) => {
  const lost = new SluiceError('SLUICE_E_WORKER_DIED', 'Worker 1 ended.');
  const { run, told } = setUp(t, (_step, _attempt, between) =>
    between.ask(() => Promise.reject(lost)).then(() => {}),
  );
  t.is(await t.throwsAsync(trainRun(run)), lost);
  t.deepEqual(told('saved'), []);
});

test('a commit that has begun is waited for, though the workers are gone', async (t) => {
  const { run, told } = setUp(t, () => new Promise((resolve) => setTimeout(resolve, 50)), {
    // Longer than a timer can wait.
    checkpoints: { slowSeconds: 1e9 },
    afterStep: [
      async (_, { result }) => {
        if (result.step === 3) throw new SluiceError('SLUICE_E_WORKER_DIED', 'Worker 1 ended.');
      },
    ],
  });
  await t.throwsAsync(trainRun(run), { code: 'SLUICE_E_WORKER_DIED' });
  t.deepEqual(told('saved'), ['saved 2']);
});

test('a state that is not worth saving stops the run before anything is staged', async (t) => {
  const { run, told } = setUp(t, during(0), { stage: async () => ({ unsound: 'its loss is NaN' }) });
  await t.throwsAsync(trainRun(run), { code: 'SLUICE_E_NON_FINITE', message: /step 2 are not worth saving/ });
  t.deepEqual(told('staged'), []);
});

test('interludes are given in order; what is asked for within one waits for the next', async (t) => {
  const interludes = new Interludes();
  const done: string[] = [];
  const note = (name: string) => async () => void done.push(name);
  const first = interludes.ask(note('first')).then(() => interludes.ask(note('third')));
  const second = interludes.ask(note('second'));
  await interludes.give();
  await second;
  t.deepEqual(done, ['first', 'second']);
  await interludes.give();
  await first;
  t.deepEqual(done, ['first', 'second', 'third']);
  interludes.end(noRoom());
  await t.throwsAsync(interludes.ask(note('never')), { code: 'SLUICE_E_DISK_FULL' });
  t.is(done.length, 3);
});
