import { join } from 'node:path';
import type { DiagnosticsRecord } from '@sluice/observe';
import test, { type ExecutionContext } from 'ava';
import { diagnosticsAfterStep } from '../../launcher/src/coordinator/diagnostics.ts';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import { trainRun } from '../../launcher/src/coordinator/trainRun.ts';
import { openJournal } from '../../launcher/src/run/journal.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { smallConfig } from './support/config.ts';
import { type FakeWorkers, fakeWorkers } from './support/fakeWorkers.ts';
import { unwatched } from './support/unwatched.ts';

/** Trains ten steps on fake workers with the hook. */
async function run(t: ExecutionContext, everySteps: number, workers: FakeWorkers = fakeWorkers()) {
  const config = {
    ...smallConfig({ checkpoint: { everySteps: 4 } }),
    diagnostics: { everySteps, sequences: 6, timelineEverySteps: 0 },
  };
  const journal = openJournal(join(temporaryDirectory(t), 'journal.jsonl'));
  t.teardown(() => journal.close());
  const kept: DiagnosticsRecord[] = [];
  const busy: (string | undefined)[] = [];
  await trainRun({
    config,
    workers,
    journal,
    observer: {
      activity: (text) => busy.push(text),
      step: () => {},
      wentBack: () => {},
      saved: () => {},
      saveRequested: () => {},
      saveStaged: () => {},
      saveFailed: () => {},
    },
    stop: { requested: false },
    wantsRegroup: () => false,
    assertOwned: () => {},
    state: initialState({}),
    ...unwatched,
    afterStep: [diagnosticsAfterStep(config, (record) => kept.push(record))],
    savedStep: -1,
    lastStep: config.training.steps,
    validates: true,
    recovery: () => ({ text: 'Lower the rate.', command: 'sluice resume' }),
    checkpoint: async ({ step }) => {
      workers.calls.push(`checkpoint ${step}`);
      return { path: `step-${step}` };
    },
  });
  return { kept, busy, calls: workers.calls };
}

test('a model is measured when it is due and after the last step, before the checkpoint of the step', async (t) => {
  const { kept, calls, busy } = await run(t, 4);
  t.deepEqual(
    kept.map(({ step }) => step),
    [4, 8, 10],
  );
  const at = calls.indexOf('checkpoint 4');
  t.deepEqual(calls.slice(at - 2, at), ['step 4', 'diagnose']);
  t.true(busy.includes('measuring'));
  t.is(busy.at(-1), undefined);
});

test('an interval of zero measures nothing', async (t) => {
  const { kept, calls } = await run(t, 0);
  t.deepEqual(kept, []);
  t.false(calls.includes('diagnose'));
});

test('workers that measure different numbers no longer hold the same weights', async (t) => {
  const workers = fakeWorkers();
  const { call } = workers;
  workers.call = (async (method, request) => {
    const answers = await call(method, request);
    if (method !== 'diagnose') return answers;
    return answers.map((answer, rank) => ({ ...answer, massiveActivation: 10 + rank }));
  }) as FakeWorkers['call'];
  await t.throwsAsync(run(t, 5, workers), {
    code: 'SLUICE_E_WORKERS_DISAGREE',
    message: /diagnostics after step 5: rank 0 says massiveActivation 10, rank 1 says 11/,
  });
});
