import { writeFileSync } from 'node:fs';
import { MetricsLog, supersedeAfter } from '@sluice/observe';
import type { Rollback } from '@sluice/train';
import test from 'ava';
import { inspectRun } from '../../launcher/src/run/inspect.ts';
import { inspectStep } from '../../launcher/src/run/inspectStep.ts';
import { openJournal } from '../../launcher/src/run/journal.ts';
import { type RunDirectory, runDirectory } from '../../launcher/src/run/runDirectory.ts';
import { record } from '../observe/support.ts';
import { makeSavedRun } from './support/savedRun.ts';

const quiet = () => {};
const noLosses = { losses: false };

interface ShownBatch {
  readonly sequences: readonly { readonly sample: number; readonly documents: readonly object[] }[];
  readonly documents?: readonly {
    readonly loss: number | null;
    readonly tokens: number;
    readonly beginning: string;
  }[];
}

const samplesOf = ({ sequences }: ShownBatch) => sequences.map(({ sample }) => sample);
const eightFrom = (first: number) => Array.from({ length: 8 }, (_, i) => first + i);

/** Back from step 7 to step 4, and from step 6 to step 2. Batches have 8 samples. */
const DECISIONS: readonly Rollback[] = [
  { step: 7, root: 6, to: 4, level: 1, nextSample: 56, rateFactor: 1, rateUntil: 4 },
  { step: 6, root: 5, to: 2, level: 2, nextSample: 72, rateFactor: 0.5, rateUntil: 9 },
];

function goBack({ journal: path }: RunDirectory, decisions = DECISIONS): void {
  const journal = openJournal(path);
  const event = { signal: 'loss', value: 7, median: 4.5, excess: 2.5, score: 9 } as const;
  for (const decision of decisions) {
    for (let step = decision.root; step <= decision.step; step++) {
      const first = { signal: 'gradientNorm.router', step: decision.root, ratio: 5, score: 12 } as const;
      journal.append('spike', step, { event: { ...event, step, first }, skipped: true });
    }
    journal.append('rollback', decision.step, { decision, leftOut: [8 * decision.to, decision.nextSample] });
  }
  journal.close();
}

test.serial('inspecting a step lists the documents of its batch, the same each time', async (t) => {
  const { run } = await makeSavedRun(t);
  const first = await inspectStep(run.path, 3, noLosses, quiet);
  const batch = first.json as unknown as ShownBatch;
  t.deepEqual(samplesOf(batch), eightFrom(16));
  t.true(batch.sequences.every(({ documents }) => documents.length > 0));
  t.is(first.json.loss, null);
  t.deepEqual(first.json.leftOut, []);
  t.deepEqual((await inspectStep(run.path, 3, noLosses, quiet)).json, first.json);
  await t.throwsAsync(inspectStep(run.path, 11, noLosses, quiet), { code: 'SLUICE_E_USAGE' });
});

test.serial(
  'a step of a run that went back has the samples that it read then, and those that it gave up',
  async (t) => {
    const { run } = await makeSavedRun(t);
    goBack(run);
    const inspected = async (step: number) => {
      const { json } = await inspectStep(run.path, step, noLosses, quiet);
      const leftOut = json.leftOut as unknown as (ShownBatch & { from: number; to: number })[];
      return [
        samplesOf(json as unknown as ShownBatch),
        ...leftOut.map((batch) => [batch.from, batch.to, samplesOf(batch)]),
      ];
    };
    t.deepEqual(await inspected(2), [eightFrom(8)]);
    t.deepEqual(await inspected(3), [eightFrom(72), [6, 2, eightFrom(16)]]);
    t.deepEqual(await inspected(5), [eightFrom(88), [7, 4, eightFrom(32)], [6, 2, eightFrom(56)]]);
    t.deepEqual(await inspected(7), [eightFrom(104), [7, 4, eightFrom(48)]]);
    t.deepEqual(await inspected(8), [eightFrom(112)]);
    const { text } = await inspectStep(run.path, 5, noLosses, quiet);
    t.regex(text, /left out when the run went back from step 7 to step 4\nsample 32: /);
  },
);

test.serial('losses are those of the newest sound checkpoint that is no later than the step', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await t.throwsAsync(inspectStep(run.path, 5, { losses: true }, quiet), { code: 'SLUICE_E_NO_CHECKPOINT' });
  await save(4);
  goBack(run, DECISIONS.slice(0, 1));
  await save(6);
  const { json, text } = await inspectStep(run.path, 5, { losses: true }, quiet);
  t.like(json.checkpoint, { step: 4 });
  t.regex(text, /under the weights of step 4, before the step/);
  const batches = [json, ...(json.leftOut as object[])] as unknown as ShownBatch[];
  t.is(batches.length, 2);
  for (const { documents } of batches) {
    // Weights of zeros find all 300 tokens equally likely.
    for (const { loss, tokens, beginning } of documents!) {
      if (tokens === 0) t.is(loss, null);
      else t.true(Math.abs(loss! - Math.log(300)) < 1e-5, `${loss}`);
      t.is(typeof beginning, 'string');
    }
    t.is(
      documents!.reduce((sum, { tokens }) => sum + tokens, 0),
      8 * 16,
    );
  }
  t.regex(text, /mean of the batch: 5\.7038/);
  const later = await inspectStep(run.path, 2, { losses: true }, quiet);
  t.like(later.json.checkpoint, { step: 4 });
  t.regex(later.text, /under the weights of step 4, none is of the step or before it/);
});

test.serial(
  'inspecting a run tells its spikes by episode, what was decided, and who computed wrongly',
  async (t) => {
    const { run } = await makeSavedRun(t);
    goBack(run);
    const journal = openJournal(run.journal);
    const numbers = { loss: 4, gradientNorm: 1 };
    journal.append('recheck', 8, { suspects: [{ rank: 1, host: 'h2' }], first: numbers, now: numbers });
    journal.close();
    const { json, text } = await inspectRun(run.path);
    t.like(json.spikes, [
      { start: 6, end: 7, points: 2, skipped: 2, decision: 'updates left out, back to step 4' },
      { start: 5, end: 6, points: 2, skipped: 2, decision: 'updates left out, back to step 2 (2 in a row)' },
    ]);
    t.like(json.rollbacks, [
      { from: undefined, step: 7, to: 4, leftOut: [32, 56], isInForce: false },
      { step: 6, to: 2, leftOut: [16, 72], isInForce: true },
    ]);
    t.regex(
      text,
      /6–7 +loss 7\.0000 over 4\.5000 +gradient norm of router ×5\.00 +updates left out, back to step 4/,
    );
    t.regex(
      text,
      /from step 6 to step 2, since a spike began at step 5; samples left out 56: 16–71; learning rate × 0\.5 to step 9/,
    );
    t.regex(text, /Step 8 was computed again, .* rank 1 on h2 computed something else than the others/);
  },
);

test.serial('a run without spikes says so', async (t) => {
  const { run } = await makeSavedRun(t);
  const { json, text } = await inspectRun(runDirectory(run.path).path);
  t.like(json, { spikes: [], rollbacks: [], rechecks: [] });
  t.regex(text, /spikes\n {2}none$/);
});

test.serial('what metrics said of a step before it was superseded is shown beside it', async (t) => {
  const { run } = await makeSavedRun(t);
  for (const loss of [9, 3]) {
    const log = MetricsLog.open(run.metrics);
    for (let step = log.lastStep + 1; step <= 5; step++) log.append(record(step, { loss }));
    log.close();
    if (loss === 9) supersedeAfter(run.path, 4);
  }
  const { text } = await inspectStep(run.path, 5, noLosses, quiet);
  t.regex(text, /^step 5: loss 3\.0000\n {2}loss 9\.0000 before it was superseded/);
});

test.serial(
  'a log that is damaged somewhere does not keep a run and its steps from being looked at',
  async (t) => {
    const { run } = await makeSavedRun(t);
    const lines = [1, 2, 3].map((step) => JSON.stringify(record(step, { loss: step })));
    writeFileSync(run.metrics, `${[lines[0], 'rubbish', ...lines.slice(1)].join('\n')}\n`);
    t.regex((await inspectRun(run.path)).text, /last step 3, loss 3\.0000/);
    t.regex((await inspectStep(run.path, 2, noLosses, quiet)).text, /^step 2: loss 2\.0000/);
  },
);
