import { join } from 'node:path';
import { SpikeDetector, type SpikeDetectorState } from '@sluice/train';
import test, { type ExecutionContext } from 'ava';
import { type CoordinatorState, initialState } from '../../launcher/src/coordinator/state.ts';
import type { Restored, TrainingRun } from '../../launcher/src/coordinator/trainingRun.ts';
import { trainRun } from '../../launcher/src/coordinator/trainRun.ts';
import type { Request } from '../../launcher/src/coordinator/workers.ts';
import { openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { smallConfig } from './support/config.ts';
import { fakeWorkers } from './support/fakeWorkers.ts';
import { unwatched } from './support/unwatched.ts';

const INTERVAL = 10;

interface Trouble {
  /** Whether the loss of a batch is high. @param firstSample of the batch */
  readonly isHigh: (step: number, firstSample: number) => boolean;
  /** Factor of the size that the update of a step has for its rate. */
  readonly movesBy?: (step: number) => number;
}

/** A run of 100 steps of 4 samples over workers whose loss is high where `isHigh` says so. */
function setUp(t: ExecutionContext, spikes: object, { isHigh, movesBy = () => 1 }: Trouble) {
  const path = join(temporaryDirectory(t), 'journal.jsonl');
  const journal = openJournal(path);
  t.teardown(() => journal.close());
  const requests: Request<'step'>[] = [];
  const rates = new Map<number, number>();
  const workers = fakeWorkers((step, rank, request) => {
    if (rank === 0) requests.push(request);
    const isOutlying = isHigh(step, request.firstSample!);
    const loss = 4 + 0.01 * Math.sin(step * 12.9898) + (isOutlying ? 2 : 0);
    const isAbove = request.limits !== undefined && loss > request.limits.loss;
    rates.set(step, request.learningRate);
    const learningRate = rates.get(step - 1);
    const lastUpdate = learningRate && {
      lastUpdate: { learningRate, overall: learningRate * movesBy(step - 1), groups: {} },
    };
    return { loss, applied: !(isAbove && request.skipOutlying), ...lastUpdate };
  });
  const config = smallConfig({
    training: { steps: 100 },
    batch: { sequences: 4 },
    checkpoint: { everySteps: 50 },
    schedule: { kind: 'constant' },
    spikes: { warmupSteps: 8, window: 32, snapshotEverySteps: INTERVAL, maxSkips: 2, ...spikes },
  });
  const detector = new SpikeDetector(config.spikes);
  const state = initialState(detector.state());
  const states = new Map<number, CoordinatorState>([[0, structuredClone(state)]]);
  const wentBack: number[] = [];
  const saved: number[] = [];
  const run: TrainingRun = {
    ...unwatched,
    ...{ config, journal, state, workers },
    spikes: {
      observe: (signals) => detector.observe(signals),
      limits: () => detector.limits(),
      get inARow() {
        return detector.inARow;
      },
      state: () => detector.state(),
      restore: (saved) => detector.restore(saved as SpikeDetectorState),
    },
    observer: {
      activity: () => {},
      step: () => {},
      saved: () => {},
      saveRequested: () => {},
      saveStaged: () => {},
      saveFailed: () => {},
      wentBack: ({ to }) => wentBack.push(to),
    },
    stop: { requested: false },
    wantsRegroup: () => false,
    assertOwned: () => {},
    goBack: async ({ to }): Promise<Restored> => ({ state: states.get(to)!, savedStep: -1 }),
    afterStep: [
      async () => {
        if (state.step % INTERVAL === 0) states.set(state.step, structuredClone(state));
      },
    ],
    savedStep: -1,
    lastStep: 100,
    validates: false,
    recovery: (rate) => ({ text: `Go on (${rate}).`, command: 'sluice resume' }),
    checkpoint: async ({ step }) => {
      saved.push(step);
      return { path: `step-${step}` };
    },
  };
  const entries = () => readJournal(path);
  return { run, requests, wentBack, saved, entries };
}

const steps = (from: number, to: number) => (step: number) => step >= from && step <= to;

test('a spike that is only reported changes nothing that workers do', async (t) => {
  const { run, requests, entries } = setUp(t, { policy: 'report' }, { isHigh: steps(50, 60) });
  t.is(await trainRun(run), 'finished');
  t.is(requests.length, 100);
  t.true(requests.every(({ skipOutlying }) => skipOutlying === false));
  t.is(entries().filter(({ kind }) => kind === 'spike').length, 11);
});

test('the first outlying step of a spike is computed again, later ones are not, unless it is turned off', async (t) => {
  const recheckOf = async (spikes: object) => {
    const { run, requests } = setUp(t, spikes, { isHigh: steps(50, 52) });
    await trainRun(run);
    return requests.slice(49, 54).map(({ recheck }) => recheck);
  };
  t.deepEqual(await recheckOf({}), ['outlying', 'never', 'never', 'never', 'outlying']);
  t.deepEqual(await recheckOf({ recheck: false }), Array(5).fill('never'));
  t.deepEqual(await recheckOf({ policy: 'off' }), Array(5).fill(undefined));
});

test('skip leaves outlying updates out, and stops where they do not end', async (t) => {
  const short = setUp(t, { policy: 'skip' }, { isHigh: steps(50, 51) });
  t.is(await trainRun(short.run), 'finished');
  const skipped = short
    .entries()
    .flatMap((entry) => (entry.kind === 'spike' && entry.skipped ? entry.step : []));
  t.deepEqual(skipped, [50, 51]);

  const long = setUp(t, { policy: 'skip' }, { isHigh: steps(50, 100) });
  const error = await t.throwsAsync(trainRun(long.run), { code: 'SLUICE_E_SPIKE' });
  t.regex(
    error.message,
    /Step 52 .* loss 6\.\d+ over a median of 4\.\d+.* 3 outlying steps .* Go on \(half\)/,
  );
  t.like(long.entries().at(-1), { kind: 'stop', reason: 'spike', step: 52, firstStep: 50 });
  t.deepEqual(long.saved, [50]);
});

test('stop saves the run as it was before the spike, and ends it', async (t) => {
  const { run, saved, entries } = setUp(t, { policy: 'stop' }, { isHigh: steps(57, 100) });
  await t.throwsAsync(trainRun(run), { code: 'SLUICE_E_SPIKE', message: /Go on \(same\)/ });
  t.deepEqual(saved, [50, 57]);
  const stop = entries().at(-1)!;
  t.like(stop, { kind: 'stop', reason: 'spike', step: 57 });
  t.false('firstStep' in stop);
});

test('rollback goes back to before the spike and leaves its samples out for good', async (t) => {
  // The batches of steps 57 to 63, wherever they come.
  const isHigh = (_: number, sample: number) => sample >= 56 * 4 && sample < 63 * 4;
  const { run, requests, wentBack, entries } = setUp(t, { policy: 'rollback' }, { isHigh });
  t.is(await trainRun(run), 'finished');
  // Three outlying steps, of which the third is too many, twice: the second time from where the first left off.
  t.deepEqual(wentBack, [50, 40]);
  const decisions = entries().flatMap((entry) => (entry.kind === 'rollback' ? entry : []));
  t.like(decisions[0], { step: 59, decision: { root: 57, to: 50, level: 1, nextSample: 59 * 4 } });
  t.deepEqual(decisions[0]!.leftOut, [50 * 4, 59 * 4]);
  t.like(decisions[1], { step: 53, decision: { root: 51, to: 40, level: 2, nextSample: 62 * 4 } });
  const last = requests.at(-1)!;
  t.is(last.step, 100);
  t.is(last.firstSample, (62 + 59) * 4);
});

test('a run goes back to before the update that moved first, which the step after it tells', async (t) => {
  const trouble: Trouble = {
    isHigh: (step, sample) => step > 50 && sample < 210,
    movesBy: (step) => (step === 50 ? 9 : 1),
  };
  const { run, wentBack, entries } = setUp(t, { policy: 'rollback' }, trouble);
  await trainRun(run);
  t.deepEqual(wentBack, [40]);
  t.like(
    entries().find((entry) => entry.kind === 'spike'),
    { step: 51, event: { first: { signal: 'update', step: 50, ratio: 9 } } },
  );
});

test('a rate that is wrong on purpose is seen in the update, relative to the one that was meant', async (t) => {
  const { run, entries } = setUp(t, { policy: 'report' }, { isHigh: steps(51, 51) });
  await trainRun({ ...run, rateOf: (step) => (step === 50 ? 20 : 1) });
  t.like(
    entries().find((entry) => entry.kind === 'spike'),
    { step: 51, event: { first: { signal: 'update', step: 50 } } },
  );
});

test('where spikes follow each other however far a run goes back, it stops', async (t) => {
  const { run, wentBack, entries } = setUp(
    t,
    { policy: 'rollback', maxRollbacks: 2 },
    { isHigh: (step) => step >= 57 },
  );
  await t.throwsAsync(trainRun(run), { code: 'SLUICE_E_SPIKE', message: /gone back 2 times/ });
  t.deepEqual(wentBack, [50, 40]);
  t.like(entries().at(-1), { kind: 'stop', reason: 'spike', firstStep: 57 });
});

test('the rate is lower after going back, as far as the configuration says', async (t) => {
  const isHigh = (_: number, sample: number) => sample >= 56 * 4 && sample < 59 * 4;
  const { run, requests } = setUp(t, { policy: 'rollback', rateFactor: 0.25, rateSteps: 20 }, { isHigh });
  await trainRun(run);
  const after = requests.slice(59);
  const [base] = requests.slice(-1).map(({ learningRate }) => learningRate);
  const rates = after.map(({ step, learningRate }) => [step, learningRate / base!]);
  t.deepEqual(rates[0], [51, 0.25]);
  t.deepEqual(rates[19], [70, 0.25]);
  t.deepEqual(rates[20], [71, 1]);
});
