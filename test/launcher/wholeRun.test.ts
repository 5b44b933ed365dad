/** A run's directory says nothing of where it lies, and needs nothing that is not in it but the prepared corpus. */

import {
  appendFileSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { readManifest } from '@sluice/checkpoint';
import { locateTokenizer } from '@sluice/checkpoint/huggingface';
import { loadForInference } from '@sluice/evaluate';
import test, { type ExecutionContext } from 'ava';
import { resumeRun } from '../../launcher/src/coordinator/resumeRun.ts';
import { dataRoots } from '../../launcher/src/run/dataRoot.ts';
import { inspectStep } from '../../launcher/src/run/inspectStep.ts';
import { loadRunConfig } from '../../launcher/src/run/runConfig.ts';
import { runDirectory } from '../../launcher/src/run/runDirectory.ts';
import { pathFromRun, pathInRun } from '../../launcher/src/run/runPaths.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { makeSavedRun } from './support/savedRun.ts';

const quiet = () => {};

/** A finished run, moved to another folder while the recipe and its text are gone; and where it was. */
async function movedRun(t: ExecutionContext) {
  const saved = await makeSavedRun(t);
  const { path: checkpoint } = await saved.save(10);
  const copy = join(temporaryDirectory(t), 'deeper', 'copy');
  const before = readFileSync(saved.run.config, 'utf8');
  cpSync(saved.run.path, copy, { recursive: true });
  rmSync(saved.run.path, { recursive: true });
  rmSync(saved.config.data.recipe!);
  rmSync(dirname(saved.textFile), { recursive: true });
  const moved = join(copy, relative(saved.run.path, checkpoint));
  return { run: runDirectory(copy), checkpoint: moved, from: saved.run.path, before };
}

test.serial('no file of a run holds an absolute path', async (t) => {
  const { run, save } = await makeSavedRun(t);
  await save(2);
  for (const name of readdirSync(run.path, { recursive: true, encoding: 'utf8' })) {
    if (!/\.(yaml|jsonl?)$/.test(name)) continue;
    t.false(readFileSync(join(run.path, name), 'utf8').includes(dirname(run.path)), name);
  }
});

test.serial(
  'a copied run goes on with its corpus when neither its recipe nor the text is there',
  async (t) => {
    const { run } = await movedRun(t);
    const log: string[] = [];
    const { json } = await resumeRun({ run: run.path }, (line) => log.push(line));
    t.like(json, { runDir: run.path, finished: true, step: 10 });
    t.regex(
      log.join('\n'),
      /the recipe .*recipe\.yaml is gone; the corpus that the run was trained on is there: .*sentences/,
    );
    const { json: inspected } = await inspectStep(run.path, 3, { losses: false }, quiet);
    t.true((inspected.sequences as unknown[]).length > 0);
  },
);

test.serial(
  'a copied run speaks through its own tokenizer, and scores its corpus wherever that lies',
  async (t) => {
    const { run, checkpoint } = await movedRun(t);
    const corpora = dataRoots().outputRoot;
    const elsewhere = `${corpora}-elsewhere`;
    renameSync(corpora, elsewhere);
    const load = (root?: string) =>
      loadForInference(checkpoint, { backend: 'native', threads: 1, corpora: root });
    const alone = await load(corpora);
    t.is((await alone.codec()).tokenizerPath, join(run.tokenizer, 'tokenizer.json'));
    t.true(Number.isFinite((await alone.evaluateText('water flows')).loss));
    const error = await failureOf(alone.evaluate({ split: 'validation' }));
    t.is(error.code, 'SLUICE_E_DATA_NOT_PREPARED');
    t.regex(
      error.message,
      /None of the corpora prepared in .* is the one that .*step-00000010 was trained on/,
    );
    const untold = await failureOf((await load()).evaluate({ split: 'validation' }));
    t.is(untold.code, 'SLUICE_E_DATA_UNKNOWN');
    t.regex(untold.message, /Nothing says where the corpus is that .*step-00000010 was trained on/);
    const { loss } = await (await load(elsewhere)).evaluate({ split: 'validation', sequences: 1 });
    t.true(Number.isFinite(loss));
  },
);

test.serial(
  'a tokenizer that is not the saved one is refused by name, and a lost one comes back from the corpus',
  async (t) => {
    const { run, save } = await makeSavedRun(t);
    const { path: checkpoint } = await save(10);
    const file = join(run.tokenizer, 'tokenizer.json');
    const original = readFileSync(file);
    appendFileSync(file, ' ');
    for (const asked of [
      async () => locateTokenizer(checkpoint, await readManifest(checkpoint)),
      () => resumeRun({ run: run.path }, quiet),
    ]) {
      const error = await failureOf(asked());
      t.is(error.code, 'SLUICE_E_TOKENIZER_CHANGED');
      t.true(error.message.includes(file), error.message);
    }
    rmSync(run.tokenizer, { recursive: true });
    const error = await failureOf(locateTokenizer(checkpoint, await readManifest(checkpoint)));
    t.is(error.code, 'SLUICE_E_TOKENIZER_MISSING');
    await resumeRun({ run: run.path }, quiet);
    t.deepEqual(readFileSync(file), original);
  },
);

test.serial('a run that is named by a symbolic link finds what lies beside it', async (t) => {
  const { run, config } = await makeSavedRun(t);
  const link = join(temporaryDirectory(t), 'far', 'away');
  cpSync(run.tokenizer, dirname(link), { recursive: true });
  symlinkSync(run.path, link);
  t.is(loadRunConfig(join(link, 'config.yaml'), {}).data.recipe, config.data.recipe);
});

test('paths from a run’s directory lead back, also to what is not there', (t) => {
  const directory = temporaryDirectory(t);
  const run = join(directory, 'a', 'run');
  for (const path of [
    join(run, 'checkpoints', 'step-00000002'),
    join(directory, 'recipe.yaml'),
    run,
    '/x/y',
  ]) {
    const written = pathInRun(run, path);
    t.false(written.startsWith('/'), written);
    t.is(pathFromRun(run, written), path);
  }
  t.is(pathInRun(run, join(run, 'tokenizer')), 'tokenizer');
  t.is(pathFromRun(run, '/x/y'), '/x/y');
  t.false(existsSync(run));
});
