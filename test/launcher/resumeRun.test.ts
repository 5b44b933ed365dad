import {
  appendFileSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { checkpointDirectory } from '@sluice/checkpoint';
import test from 'ava';
import { prepareDataset } from '../../launcher/src/coordinator/dataset.ts';
import { resumeRun } from '../../launcher/src/coordinator/resumeRun.ts';
import { runDataset } from '../../launcher/src/coordinator/runDataset.ts';
import { inspectRun } from '../../launcher/src/run/inspect.ts';
import { openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { locateCheckpoint } from '../../launcher/src/run/locateCheckpoint.ts';
import { acquireLock } from '../../launcher/src/run/lock.ts';
import { makeSavedRun, savingWorker, sentences } from './support/savedRun.ts';

const quiet = () => {};

test.serial(
  'saving journals the intent, then the commit with the weights’ hash, and keeps the newest',
  async (t) => {
    const { run, save } = await makeSavedRun(t);
    for (const step of [2, 4, 6]) await save(step);
    const { weights } = await save(8);
    t.deepEqual(
      readJournal(run.journal).map(({ kind, step }) => `${kind} ${step}`),
      ['start 0', ...[2, 4, 6, 8].flatMap((step) => [`save ${step}`, `commit ${step}`])],
    );
    t.like(readJournal(run.journal).at(-1), { path: 'checkpoints/step-00000008', weights });
    t.deepEqual(readdirSync(run.checkpoints).sort(), ['step-00000006', 'step-00000008']);
  },
);

test.serial('a save that fails half way commits nothing, and leaves the one before', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(2);
  const worker = savingWorker();
  const call = worker.call.bind(worker);
  worker.call = async (method, request) => {
    if (method === 'save') throw new Error('no space');
    return call(method, request);
  };
  await t.throwsAsync(save(4, worker), { message: 'no space' });
  t.is(readJournal(run.journal).at(-1)!.kind, 'save');
  t.false(existsSync(join(checkpointDirectory(run.path, 4), 'manifest.json')));
  t.is(await locateCheckpoint(run.path, quiet), checkpointDirectory(run.path, 2));
});

test.serial('a finished run resumed says so, with what it came to, and starts nothing', async (t) => {
  const { run, save } = await makeSavedRun(t);
  const { weights } = await save(10);
  const { json, text } = await resumeRun({ run: run.path }, quiet);
  t.like(json, {
    runDir: run.path,
    step: 10,
    finished: true,
    trainLoss: 5,
    validationLoss: 4.5,
    tokensPerSecond: null,
    weightsHash: weights,
    report: null,
  });
  t.regex(text, /had finished/);
  t.notRegex(text, /report\.html/);
  t.is(readJournal(run.journal).at(-1)!.kind, 'commit');
  t.false(existsSync(run.lock));
});

test.serial('a key of --allow that allows nothing is refused before anything is done', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(2);
  await t.throwsAsync(resumeRun({ run: run.path, allow: ['optimizer.learningRat'] }, quiet), {
    code: 'SLUICE_E_RESUME_ALLOW_INVALID',
  });
  t.is(readJournal(run.journal).at(-1)!.kind, 'commit');
});

test.serial('a run in use by a live process is not resumed', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(4);
  const lock = acquireLock(run.lock);
  await t.throwsAsync(resumeRun({ run: run.path }, quiet), { code: 'SLUICE_E_RUN_IN_USE' });
  lock.release();
});

test.serial('changed keys are judged before anything starts or is written', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(4);
  const journal = readJournal(run.journal);
  const resume = (...set: string[]) => resumeRun({ run: run.path, set }, quiet);
  await t.throwsAsync(resume('training.steps=20'), { code: 'SLUICE_E_RESUME_NEEDS_ALLOW' });
  await t.throwsAsync(resume('seed=2'), { code: 'SLUICE_E_RESUME_KEY_FIXED' });
  await t.throwsAsync(resume('model.hiddenSize=16'), { code: 'SLUICE_E_RESUME_KEY_FIXED' });
  await t.throwsAsync(resume('parallel.workers=4'), { code: 'SLUICE_E_WORKERS_INVALID' });
  await t.throwsAsync(resume('unheard.of=1'), { code: 'SLUICE_E_CONFIG_OVERRIDE' });
  t.deepEqual(readJournal(run.journal), journal);
  t.false(existsSync(run.lock));
});

test.serial(
  'a run keeps the corpus that it was trained on, whatever becomes of text and recipe, and says so',
  async (t) => {
    const { run, config, save, textFile } = await makeSavedRun(t);
    await save(10);
    const notes: string[] = [];
    const resume = async () => {
      notes.length = 0;
      t.is((await resumeRun({ run: run.path }, (line) => notes.push(line))).json.step, 10);
      return notes.join('\n');
    };
    t.is(await resume(), '');
    utimesSync(textFile, 1, 1);
    t.notRegex(await resume(), /changed|gone|words/);
    t.is(await resume(), '', 'a text that was compared is not compared again');
    writeFileSync(textFile, sentences(280));
    t.regex(await resume(), /the text of .*recipe\.yaml has changed since.*sluice data prepare/);
    rmSync(textFile);
    t.regex(await resume(), /the text of .*recipe\.yaml is gone/);
    appendFileSync(config.data.recipe!, 'shardTokens: 1000\n');
    t.regex(await resume(), /the recipe .*recipe\.yaml has changed; .*prepared\/sentences/);
    rmSync(config.data.recipe!);
    t.regex(await resume(), /the recipe .*recipe\.yaml is gone; .*prepared\/sentences/);
  },
);

test.serial('a run whose corpus is gone takes no other for it, and replaces none', async (t) => {
  const { run, config, save, textFile } = await makeSavedRun(t);
  await save(4);
  const changed = { code: 'SLUICE_E_DATASET_CHANGED' };
  const other = join(run.path, '..', 'other.yaml');
  writeFileSync(other, `${readFileSync(config.data.recipe!, 'utf8')}shardTokens: 1000\n`);
  const named = { run: run.path, set: [`data.recipe=${other}`], allow: ['data.recipe'] };
  const described = await t.throwsAsync(resumeRun(named, quiet), changed);
  t.regex(described.message, /other\.yaml describes another/);

  writeFileSync(textFile, sentences(280));
  const { manifestHash, directory } = await prepareDataset(config.data.recipe!, quiet, {
    changedText: 'prepare',
  });
  const replaced = await t.throwsAsync(resumeRun({ run: run.path }, quiet), changed);
  t.true(replaced.message.includes(`${directory} now holds ${manifestHash}`), replaced.message);

  rmSync(directory, { recursive: true });
  t.regex((await t.throwsAsync(resumeRun({ run: run.path }, quiet), changed)).message, /recipe now gives/);
  writeFileSync(textFile, sentences(300));
  rmSync(directory, { recursive: true });
  await t.throwsAsync(resumeRun({ run: run.path, untilStep: 4 }, quiet), { code: 'SLUICE_E_USAGE' });
});

test.serial('the corpus is taken from a renamed copy where another was prepared in its place', async (t) => {
  const { config, textFile } = await makeSavedRun(t);
  const recipe = config.data.recipe!;
  const { directory, manifestHash: datasetHash } = await prepareDataset(recipe, quiet);
  const copy = join(directory, '..', 'backup');
  cpSync(directory, copy, { recursive: true });
  t.is((await runDataset({ recipe, datasetHash }, quiet)).directory, directory);
  writeFileSync(textFile, sentences(280));
  await prepareDataset(recipe, quiet, { changedText: 'prepare' });
  const log: string[] = [];
  const found = await runDataset({ recipe, datasetHash }, (line) => log.push(line));
  t.like(found, { directory: copy, manifestHash: datasetHash });
  t.regex(log.join(), /prepared\/sentences does not hold the corpus .*: .*prepared\/backup/);
});

test.serial('a corpus that cannot be used is not replaced for the sake of a run', async (t) => {
  const { config, textFile } = await makeSavedRun(t);
  const recipe = config.data.recipe!;
  const { directory, manifestHash: datasetHash } = await prepareDataset(recipe, quiet);
  const manifest = join(directory, 'manifest.json');
  const older = readFileSync(manifest, 'utf8').replace(
    /"preparationVersion": \d+/,
    '"preparationVersion": 1',
  );
  writeFileSync(manifest, older);
  writeFileSync(textFile, sentences(280));
  const error = await t.throwsAsync(runDataset({ recipe, datasetHash }, quiet), {
    code: 'SLUICE_E_DATASET_CHANGED',
  });
  t.regex(
    error.message,
    /holds what cannot be used \(.*not a manifest of this version\).*sluice data prepare/,
  );
  t.is(readFileSync(manifest, 'utf8'), older);
});

test.serial('a damaged checkpoint is refused with the reason, and the one before is used', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(10);
  const { path } = await save(11);
  const shard = readdirSync(path).find((name) => name.endsWith('.safetensors'))!;
  truncateSync(join(path, shard), 100);
  const log: string[] = [];
  const { json } = await resumeRun({ run: run.path }, (line) => log.push(line));
  t.is(json.step, 10);
  t.is(log.length, 1);
  t.regex(log[0]!, /^checkpoint of step 11 is refused: .+step-00000011/);

  const { json: inspected } = await inspectRun(run.path);
  t.deepEqual(
    (inspected.checkpoints as { step: number; valid: boolean }[]).map(({ step, valid }) => [step, valid]),
    [
      [10, true],
      [11, false],
    ],
  );
});

test.serial(
  'a run that has lost its checkpoints is told so, each with what is wrong, and nothing is done',
  async (t) => {
    const { run, save } = await makeSavedRun(t);
    const paths = [(await save(2)).path, (await save(4)).path];
    for (const path of paths) writeFileSync(join(path, 'manifest.json'), '');
    const journal = readJournal(run.journal);
    const lost = { code: 'SLUICE_E_NO_CHECKPOINT' };
    const damaged = await t.throwsAsync(resumeRun({ run: run.path }, quiet), lost);
    t.regex(
      damaged.message,
      /step 4: .*own hash.*\n.*step 2: .*own hash.*\n.*sluice resume .* --from-scratch$/,
    );
    rmSync(paths[1]!, { recursive: true });
    const both = await t.throwsAsync(resumeRun({ run: run.path }, quiet), lost);
    t.regex(both.message, /step 4: it was saved, and is not there any more\n.*step 2: .*own hash/);
    rmSync(run.checkpoints, { recursive: true });
    const gone = await t.throwsAsync(resumeRun({ run: run.path }, quiet), lost);
    t.regex(gone.message, /step 4: it was saved, and is not there any more/);
    t.deepEqual(readJournal(run.journal), journal);
  },
);

test.serial('beginning from scratch is refused where there is a checkpoint to go on from', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(4);
  const error = await t.throwsAsync(resumeRun({ run: run.path, fromScratch: true }, quiet), {
    code: 'SLUICE_E_USAGE',
  });
  t.regex(error.message, /a sound checkpoint of step 4/);
});

test.serial('steps that the run has passed, and a run made shorter than it is, are refused', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(4);
  await t.throwsAsync(resumeRun({ run: run.path, untilStep: 4 }, quiet), { code: 'SLUICE_E_USAGE' });
  for (const steps of [3, 4]) {
    const options = { run: run.path, set: [`training.steps=${steps}`], allow: ['training.steps'] };
    const error = await t.throwsAsync(resumeRun(options, quiet), { code: 'SLUICE_E_SCHEDULE_INVALID' });
    t.regex(error.message, new RegExp(`training.steps is now ${steps}, but the run is at step 4 already`));
  }
  t.is(readJournal(run.journal).at(-1)!.kind, 'commit');
});

test.serial('weights or moments that are not finite, or whose probe is not, are not saved', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(2);
  for (const [answer, reason] of [
    [{ probe: { loss: Number.NaN, arithmetic: 'fake' }, nonFinite: [] }, /probe is NaN/],
    [{ probe: { loss: 1, arithmetic: 'fake' }, nonFinite: ['lm_head.weight'] }, /lm_head\.weight/],
  ] as const) {
    const worker = savingWorker();
    const call = worker.call.bind(worker);
    worker.call = async (method, request) =>
      (method === 'examine' ? [answer] : await call(method, request)) as never;
    await t.throwsAsync(save(4, worker), { message: reason });
  }
  t.is(readJournal(run.journal).at(-1)!.step, 2);
  t.deepEqual(readdirSync(run.checkpoints), ['step-00000002']);
});

test.serial('a checkpoint whose weights gave no finite step is used by no command', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(2);
  await save(4);
  const journal = openJournal(run.journal);
  journal.append('stop', 14, { reason: 'nonFinite', firstStep: 5 });
  journal.close();
  const refused: string[] = [];
  const path = await locateCheckpoint(run.path, ({ reason }) => refused.push(reason));
  t.is(path, checkpointDirectory(run.path, 2));
  t.regex(refused.join(), /no finite update in steps 5 to 14/);
  const { json, text } = await inspectRun(run.path);
  t.deepEqual(
    (json.checkpoints as { distrust: string | null }[]).map(({ distrust }) => distrust !== null),
    [false, true],
  );
  t.regex(text, /step 4: not gone on from: its weights gave no finite update/);
});

test.serial('a run without a valid checkpoint has none to evaluate', async (t) => {
  const { run } = await makeSavedRun(t);
  await t.throwsAsync(locateCheckpoint(run.path, quiet), { code: 'SLUICE_E_NO_CHECKPOINT' });
  await t.throwsAsync(locateCheckpoint(join(run.path, 'none'), quiet), { code: 'SLUICE_E_FILE_MISSING' });
});
