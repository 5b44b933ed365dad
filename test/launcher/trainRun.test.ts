import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import test, { type ExecutionContext } from 'ava';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import type { StepReport, TrainingRun } from '../../launcher/src/coordinator/trainingRun.ts';
import { isDue, trainRun } from '../../launcher/src/coordinator/trainRun.ts';
import { openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { smallConfig } from './support/config.ts';
import { type FakeWorkers, fakeWorkers } from './support/fakeWorkers.ts';
import { unwatched } from './support/unwatched.ts';

interface Setting extends Partial<Omit<TrainingRun, 'workers' | 'stop'>> {
  readonly workers?: FakeWorkers;
  readonly stop?: { requested: boolean };
}

/** A run over fake workers; `timeline` holds calls and reports in the order in which they came. */
function setUp(t: ExecutionContext, setting: Setting = {}) {
  const path = join(temporaryDirectory(t), 'journal.jsonl');
  const journal = openJournal(path);
  t.teardown(() => journal.close());
  const workers = setting.workers ?? fakeWorkers();
  const reports: StepReport[] = [];
  const state = initialState({ seen: 0 });
  const run: TrainingRun = {
    config: smallConfig(),
    journal,
    observer: {
      activity: () => {},
      step: (report) => {
        reports.push(report);
        workers.calls.push(`report ${report.result.step}`);
      },
      wentBack: ({ step, to }) => workers.calls.push(`back ${step} ${to}`),
      saved: (step) => workers.calls.push(`saved ${step}`),
      saveRequested: () => {},
      saveStaged: () => {},
      saveFailed: (step, reason) => workers.calls.push(`unsaved ${step} ${reason}`),
    },
    stop: { requested: false },
    wantsRegroup: () => false,
    assertOwned: () => {},
    state,
    ...unwatched,
    spikes: { ...unwatched.spikes, state: () => ({ seen: run.state.step }) },
    afterStep: [],
    savedStep: -1,
    lastStep: (setting.config ?? smallConfig()).training.steps,
    validates: true,
    recovery: () => ({ text: 'Lower the rate.', command: 'sluice resume' }),
    checkpoint: async (now) => {
      workers.calls.push(`checkpoint ${now.step}`);
      return { path: `step-${now.step}` };
    },
    ...setting,
    workers,
  };
  return { run, workers, reports, entries: () => readJournal(path) };
}

function callsOf(workers: FakeWorkers, kind: string): number[] {
  return workers.calls
    .filter((call) => call.startsWith(`${kind} `))
    .map((call) => Number(call.split(' ')[1]));
}

test('a run that begins with given weights saves them before its first step, unless it has a checkpoint', async (t) => {
  const config = smallConfig({ training: { steps: 2 }, initialize: { from: 'weights' } });
  const { run, workers } = setUp(t, { config });
  await trainRun(run);
  t.deepEqual(callsOf(workers, 'checkpoint'), [0, 2]);
  t.true(workers.calls.indexOf('checkpoint 0') < workers.calls.findIndex((call) => call.startsWith('step')));
  const resumed = setUp(t, { config, savedStep: 0 });
  await trainRun(resumed.run);
  t.deepEqual(callsOf(resumed.workers, 'checkpoint'), [2]);
});

test('a run takes every step, evaluates and saves at its end, and is finished', async (t) => {
  const { run, workers, reports, entries } = setUp(t);
  t.is(await trainRun(run), 'finished');
  t.deepEqual(callsOf(workers, 'step'), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  t.deepEqual(workers.calls.slice(-5), ['step 10', 'evaluate', 'report 10', 'checkpoint 10', 'saved 10']);
  t.is(reports.at(-1)!.validation?.loss, 4);
  t.is(reports[0]!.validation, undefined);
  t.like(run.state, { step: 10, tokens: 2560, trainLoss: 4.9, validationLoss: 4, bestValidationLoss: 4 });
  t.like(entries().at(-1), { kind: 'stop', step: 10, reason: 'finished' });
});

test('workers that are to be spread anew take a step before, however often hosts come, and save it', async (t) => {
  const { run, workers } = setUp(t, { wantsRegroup: () => true });
  t.is(await trainRun(run), 'regroup');
  t.is(await trainRun(run), 'regroup');
  t.deepEqual(callsOf(workers, 'step'), [1, 2]);
  t.deepEqual(callsOf(workers, 'checkpoint'), [1, 2]);
});

test('validations and checkpoints come when they are due, a checkpoint after the validation of its step', async (t) => {
  const config = smallConfig({ evaluation: { everySteps: 4 }, checkpoint: { everySteps: 4 } });
  const { run, workers } = setUp(t, { config });
  await trainRun(run);
  t.deepEqual(callsOf(workers, 'checkpoint'), [4, 8, 10]);
  t.is(workers.calls.filter((call) => call === 'evaluate').length, 3);
  const end = workers.calls.indexOf('checkpoint 4');
  t.deepEqual(workers.calls.slice(end - 3, end + 3), [
    'step 4',
    'evaluate',
    'report 4',
    'checkpoint 4',
    'saved 4',
    'step 5',
  ]);
});

test('a checkpoint that is due at the last step is written once', async (t) => {
  const { run, workers } = setUp(t, { config: smallConfig({ checkpoint: { everySteps: 5 } }) });
  await trainRun(run);
  t.deepEqual(callsOf(workers, 'checkpoint'), [5, 10]);
});

test('a stop signal ends the run after the current step, with a checkpoint of it and no validation', async (t) => {
  const stop = { requested: false };
  const workers = fakeWorkers((step) => {
    if (step === 3) stop.requested = true;
    return {};
  });
  const { run, entries } = setUp(t, { stop, workers });
  t.is(await trainRun(run), 'signal');
  t.deepEqual(workers.calls.slice(-4), ['step 3', 'report 3', 'checkpoint 3', 'saved 3']);
  t.like(entries().at(-1), { kind: 'stop', step: 3, reason: 'signal' });
});

test('a stop signal before the first step of a new run leaves a checkpoint of step 0', async (t) => {
  const { run, workers } = setUp(t, { stop: { requested: true } });
  t.is(await trainRun(run), 'signal');
  t.deepEqual(workers.calls, ['checkpoint 0', 'saved 0']);
});

test('a stop signal before the first step of a resumed run writes nothing that is there already', async (t) => {
  const state = { ...initialState({}), step: 4 };
  const { run, workers } = setUp(t, { state, savedStep: 4, stop: { requested: true } });
  t.is(await trainRun(run), 'signal');
  t.deepEqual(workers.calls, []);
});

test('a last step before the end stops the run there, and learning rates stay those of the whole run', async (t) => {
  const whole = setUp(t);
  await trainRun(whole.run);
  const state = { ...initialState({}), step: 4 };
  const part = setUp(t, { state, savedStep: 4, lastStep: 7 });
  t.is(await trainRun(part.run), 'lastStep');
  t.deepEqual(callsOf(part.workers, 'step'), [5, 6, 7]);
  t.deepEqual(callsOf(part.workers, 'checkpoint'), [7]);
  t.is(part.run.state.validationLoss, 4);
  t.deepEqual(
    part.reports.map((report) => report.learningRate),
    whole.reports.slice(4, 7).map((report) => report.learningRate),
  );
  t.is(new Set(whole.reports.map((report) => report.learningRate)).size, 10);
});

test('a step whose update was not applied is journaled with its values, and the run goes on', async (t) => {
  const workers = fakeWorkers((step) =>
    step === 2 ? { applied: false, loss: Number.NaN, gradientNorm: Infinity } : {},
  );
  const { run, reports, entries } = setUp(t, { workers });
  t.is(await trainRun(run), 'finished');
  t.like(
    entries().find((entry) => entry.kind === 'nonFinite'),
    { step: 2, loss: 'NaN', gradientNorm: 'Infinity', inARow: 1 },
  );
  t.deepEqual(
    reports.slice(0, 3).map((report) => report.nonFiniteInARow),
    [0, 1, 0],
  );
});

test('ten such steps in a row stop the run, and no checkpoint is written after them', async (t) => {
  const workers = fakeWorkers((step) => (step >= 3 ? { applied: false, loss: Number.NaN } : {}));
  const config = smallConfig({ training: { steps: 50 }, checkpoint: { everySteps: 2 } });
  const { run, entries } = setUp(t, { workers, config });
  const error = await t.throwsAsync(trainRun(run), { code: 'SLUICE_E_NON_FINITE' });
  t.regex(error.message, /Steps 3 to 12 /);
  t.deepEqual(callsOf(workers, 'step').at(-1), 12);
  t.false(workers.calls.includes('checkpoint 12'));
  t.true(workers.calls.includes('report 12'));
  t.like(entries().at(-1), { kind: 'stop', step: 12, reason: 'nonFinite' });
});

test('while updates are left out no checkpoint is due, but a stop signal still saves', async (t) => {
  const stop = { requested: false };
  const workers = fakeWorkers((step) => {
    if (step === 7) stop.requested = true;
    return step >= 3 ? { applied: false, loss: Number.NaN } : {};
  });
  const config = smallConfig({ checkpoint: { everySteps: 2 } });
  const { run } = setUp(t, { workers, config, stop });
  t.is(await trainRun(run), 'signal');
  t.deepEqual(callsOf(workers, 'checkpoint'), [2, 7]);
});

test('weights that are not worth saving stop the run at once, with the way out', async (t) => {
  const { run, workers, entries } = setUp(t, {
    config: smallConfig({ checkpoint: { everySteps: 2 } }),
    checkpoint: async ({ step }) => (step < 4 ? { path: 'p' } : { unsound: 'the loss of the probe is NaN' }),
  });
  const error = await t.throwsAsync(trainRun(run), { code: 'SLUICE_E_NON_FINITE' });
  t.regex(error.message, /weights after step 4 .*: the loss of the probe is NaN\. Lower the rate\./);
  t.deepEqual(callsOf(workers, 'saved'), [2]);
  t.like(entries().at(-1), { kind: 'stop', step: 4, reason: 'nonFinite' });
});

test('a validation loss that is no number is journaled by name, and is no best one', async (t) => {
  const workers = fakeWorkers();
  const call = workers.call.bind(workers);
  let loss = 3;
  workers.call = async (method, request) => {
    const answers = await call(method, request);
    return (method === 'evaluate' ? answers.map(() => ({ loss, tokens: 8 })) : answers) as typeof answers;
  };
  const config = smallConfig({ evaluation: { everySteps: 5 } });
  const { run, entries } = setUp(t, { workers, config, lastStep: 5 });
  await trainRun(run);
  loss = Number.NaN;
  await trainRun({ ...run, lastStep: 10, savedStep: 5 });
  t.like(run.state, { validationLoss: null, bestValidationLoss: 3 });
  t.like(
    entries().findLast(({ kind }) => kind === 'evaluate'),
    { loss: 'NaN' },
  );
});

test('the count of such steps goes on after a resume', async (t) => {
  const workers = fakeWorkers(() => ({ applied: false, loss: Number.NaN }));
  const state = { ...initialState({}), step: 8, nonFiniteInARow: 8 };
  const { run } = setUp(t, { workers, state, savedStep: 8 });
  await t.throwsAsync(trainRun(run), { code: 'SLUICE_E_NON_FINITE' });
  t.deepEqual(callsOf(workers, 'step'), [9, 10]);
});

test('a spike is journaled before the step is reported, and the detector’s state is in the checkpoint', async (t) => {
  const event = { signal: 'loss', step: 5, value: 6, median: 4, excess: 2, score: 9 } as const;
  const observed: unknown[] = [];
  const { run, reports, entries } = setUp(t, {
    spikes: {
      ...unwatched.spikes,
      observe: (signals) => {
        observed.push(signals);
        return signals.step === 5 ? event : undefined;
      },
      state: () => ({ seen: observed.length }),
    },
  });
  await trainRun(run);
  t.like(
    entries().find((entry) => entry.kind === 'spike'),
    { step: 5, event },
  );
  t.deepEqual(
    reports.filter((report) => report.spike).map((report) => report.result.step),
    [5],
  );
  t.deepEqual(run.state.spikes, { seen: 10 });
  t.deepEqual(observed[0], {
    ...{ step: 1, loss: 4.99, gradientNorm: 1, groupNorms: {} },
    lastUpdate: undefined,
  });
});

test('workers that disagree about a loss stop the run before anything is built on it', async (t) => {
  const workers = fakeWorkers((step, rank) => (step === 4 && rank === 1 ? { loss: 1.5 } : {}));
  const { run } = setUp(t, { workers });
  await t.throwsAsync(trainRun(run), {
    code: 'SLUICE_E_WORKERS_DISAGREE',
    message: /step 4: rank 0 says loss 4\.96, rank 1 says 1\.5/,
  });
  t.false(workers.calls.some((call) => call.startsWith('checkpoint')));
});

test('a failing checkpoint is never reported as saved', async (t) => {
  const { run, workers } = setUp(t, {
    checkpoint: async () => {
      throw new Error('no space');
    },
  });
  await t.throwsAsync(trainRun(run), { message: 'no space' });
  t.false(workers.calls.some((call) => call.startsWith('saved')));
});

const noRoom = () => new SluiceError('SLUICE_E_DISK_FULL', 'No space left.');

test('a checkpoint that the disk does not take ends no run: it is journaled, and the next one is written', async (t) => {
  let full = true;
  const { run, workers, entries } = setUp(t, {
    config: smallConfig({ training: { steps: 6 }, checkpoint: { everySteps: 2 } }),
    checkpoint: async ({ step }) => {
      full = step < 4;
      if (full) throw noRoom();
      return { path: `step-${step}` };
    },
  });
  t.is(await trainRun(run), 'finished');
  t.deepEqual(callsOf(workers, 'unsaved'), [2]);
  t.deepEqual(callsOf(workers, 'saved'), [4, 6]);
  t.like(
    entries().find((entry) => entry.kind === 'saveFailed'),
    { step: 2, message: 'No space left.' },
  );
});

test('the last checkpoint is tried again until the disk takes it', async (t) => {
  let attempts = 0;
  let pauses = 0;
  const { run, workers } = setUp(t, {
    lastSave: { attempts: 5, pause: async () => void pauses++ },
    checkpoint: async ({ step }) => {
      if (++attempts < 4) throw noRoom();
      return { path: `step-${step}` };
    },
  });
  t.is(await trainRun(run), 'finished');
  t.is(pauses, 3);
  t.deepEqual(callsOf(workers, 'saved'), [10]);
});

test('a last checkpoint that is never taken is an error, after as many attempts as there may be', async (t) => {
  const { run, workers } = setUp(t, {
    lastSave: { attempts: 3, pause: async () => {} },
    checkpoint: async () => {
      throw noRoom();
    },
  });
  await t.throwsAsync(trainRun(run), { code: 'SLUICE_E_DISK_FULL' });
  t.deepEqual(callsOf(workers, 'unsaved'), [10, 10, 10]);
});

test('the step’s times are the mean of the workers’, and its memory the largest', async (t) => {
  const { run, reports } = setUp(t);
  await trainRun(run);
  const { total, compute, waiting, communicate, optimize } = reports[0]!.result.seconds;
  t.is(total, (0.01 + 0.011) / 2);
  t.is(waiting, 0.0005);
  t.true(Math.abs(compute + waiting + communicate + optimize - total) < 1e-12, 'the parts add up');
  t.is(reports[0]!.result.peakMemoryBytes, 1001);
});

test('what is done every 0 steps is never due', (t) => {
  t.deepEqual(
    [1, 2, 3, 4].filter((step) => isDue(2, step)),
    [2, 4],
  );
  t.deepEqual(
    [1, 2, 3, 4].filter((step) => isDue(0, step)),
    [],
  );
});

test('a run whose corpus holds nothing out never validates', async (t) => {
  const config = smallConfig({ evaluation: { everySteps: 2 } });
  const { run, workers } = setUp(t, { config, validates: false });
  t.is(await trainRun(run), 'finished');
  t.false(workers.calls.includes('evaluate'));
  t.is(run.state.validationLoss, null);
});
