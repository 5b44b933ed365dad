/** Checkpoints that are written beside training: the bits of their step, and a run that trains on where they cannot be written. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const inRun = (run: string, ...names: string[]) => join(sandbox.path, run, ...names);
const checkpoint = (run: string, step: number) =>
  inRun(run, 'checkpoints', `step-${String(step).padStart(8, '0')}`);

/** Content of a checkpoint, by its manifest. */
function contentOf(run: string, step: number) {
  const manifest = JSON.parse(readFileSync(join(checkpoint(run, step), 'manifest.json'), 'utf8'));
  const { hashes, state, probe, shards } = manifest;
  return { hashes, probe, shards, ...state, tokenizer: undefined };
}

function linesOf(run: string, file: string): Record<string, unknown>[] {
  const lines = readFileSync(inRun(run, file), 'utf8').trim().split('\n');
  return lines.map((line) => JSON.parse(line));
}

/** A run with a checkpoint of step 4, and a file where the directory of the next one is to be; what comes of going on. */
async function obstructed(run: string, settings: string) {
  await sandbox.json(`train dense.yaml --threads 1 --until-step 4 --run-dir ${run} --set ${settings}`);
  writeFileSync(checkpoint(run, 8), '');
  return sandbox.start(`resume ${run} --json`).ended;
}

test.serial('a checkpoint holds the state of its step, whether training waited for it or not', async (t) => {
  const train = 'train moe.yaml --threads 1 --workers 2 --set checkpoint.keep=9 --run-dir';
  await sandbox.json(`${train} beside`);
  await sandbox.json(`${train} waiting --set checkpoint.asynchronous=false`);
  for (const step of [4, 8, 12]) t.deepEqual(contentOf('beside', step), contentOf('waiting', step));
  const told = linesOf('beside', 'metrics.jsonl').flatMap(({ checkpoint }) => checkpoint ?? []);
  t.like(told[0], { requested: 4, staged: 4 });
  const kinds = linesOf('beside', 'journal.jsonl').filter(({ step }) => step === 4);
  t.deepEqual(
    kinds.map(({ kind }) => kind).filter((kind) => kind !== 'evaluate'),
    ['save', 'staged', 'commit'],
  );
});

test.serial('a run trains on past a checkpoint that cannot be written, and says so at its end', async (t) => {
  const { code, stdout, stderr } = await obstructed('past', 'checkpoint.retrySeconds=0');
  t.is(code, 0, stderr);
  t.regex(stderr, /step 8 could not be saved: Cannot write .*trying again \(1 of 3\)/);
  const { step, failedSaves } = JSON.parse(stdout);
  t.is(step, 12);
  t.deepEqual(
    failedSaves.map((failed: { step: number }) => failed.step),
    [8],
  );
  t.is(contentOf('past', 4).coordinator.step, 4);
});

test.serial('a run that is not to go on without checkpoints ends, with the last one whole', async (t) => {
  const { code, stdout } = await obstructed(
    'strict',
    'checkpoint.attempts=1 --set checkpoint.onFailure=stop',
  );
  t.is(code, 1);
  const { error } = JSON.parse(stdout);
  t.is(error.code, 'SLUICE_E_SAVE_FAILED');
  t.regex(
    error.message,
    /Step 8 could not be saved: .* The last checkpoint is step 4; go on with: sluice resume/,
  );
});
