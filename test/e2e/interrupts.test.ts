/** Ctrl-C and hang-ups in every stage: the exit code says what came of it, no process lives on, and nothing half-written is left. */

import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { isGone, workersOf } from './support/processes.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

/** Text and merges enough that preparing them takes seconds. */
test.before(() => {
  mkdirSync(join(sandbox.path, 'long'));
  for (let i = 0; i < 20; i++) {
    const words = Array.from({ length: 40_000 }, (_, j) => ((i * 40_000 + j) * 2_654_435_761).toString(36));
    writeFileSync(join(sandbox.path, 'long', `${i}.txt`), words.join(' '));
  }
  sandbox.write(
    'long.yaml',
    'name: long\nsources: [{ kind: text, path: long }]\ntokenizer: { kind: train, vocabularySize: 30000 }\n',
  );
});

function errorCode(stdout: string): string {
  return JSON.parse(stdout).error.code;
}

for (const [command, directory] of [
  ['data prepare long.yaml', undefined],
  ['train dense.yaml --set data.recipe=long.yaml --run-dir unprepared', 'unprepared'],
] as const) {
  for (const stage of ['reading words', 'finding the merges']) {
    test.serial(`while ${stage}: ${command} ends with 130 and leaves nothing`, async (t) => {
      const run = sandbox.start(`${command} --json`);
      await run.shown(`data: ${stage}`);
      run.child.kill('SIGINT');
      const { code, stdout } = await run.ended;
      t.is(code, 130);
      t.is(errorCode(stdout), 'SLUICE_E_INTERRUPTED');
      t.deepEqual(readdirSync(join(sandbox.path, 'data', 'prepared')), []);
      if (directory !== undefined) t.false(existsSync(join(sandbox.path, directory)));
    });
  }
}

test.serial(
  'while workers start: the run ends at step 0 with a checkpoint, and goes on from there',
  async (t) => {
    const run = sandbox.start('train moe.yaml --workers 2 --run-dir early --json');
    await run.shown('data: tiny: 60 documents');
    let workers: number[] = [];
    while (workers.length < 2) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      workers = workersOf(run.child.pid!);
    }
    run.child.kill('SIGINT');
    const { code, stdout } = await run.ended;
    t.is(code, 0);
    t.like(JSON.parse(stdout), { step: 0, finished: false });
    for (const worker of workers) t.true(await isGone(worker));
    t.is((await sandbox.json('resume early')).step, 12);
  },
);

/** Whoever starts the tests by nohup means those to go on, and would have commands that do so for ever. */
const HANG_UPS_STOP = { SLUICE_HANGUP: 'stop' };

const endless = '--set training.steps=100000 checkpoint.everySteps=0';

test.serial('a hang-up that reaches coordinator and workers saves, with exit code 0', async (t) => {
  const run = sandbox.start(`train moe.yaml --workers 2 --run-dir hung-up ${endless}`, HANG_UPS_STOP);
  await run.shown('1/100000');
  for (const pid of [...workersOf(run.child.pid!), run.child.pid!]) process.kill(pid, 'SIGHUP');
  const { code, stderr } = await run.ended;
  t.is(code, 0, stderr);
  t.regex(stderr, /saved step \d+/);
});

test.serial(
  'a run that is to ignore hang-ups goes on after one, says so once, and can be stopped',
  async (t) => {
    const run = sandbox.start(`train dense.yaml --run-dir nohup ${endless}`, { SLUICE_HANGUP: 'ignore' });
    await run.shown('1/100000');
    run.child.kill('SIGHUP');
    await run.shown('hang-up: going on');
    run.child.kill('SIGHUP');
    run.child.kill('SIGTERM');
    const { code, stderr } = await run.ended;
    t.is(code, 0);
    t.is(stderr.split('hang-up: going on').length, 2);
    t.regex(stderr, /saved step \d+/);
  },
);

test.serial('a hang-up ends other commands as SIGTERM does', async (t) => {
  const run = sandbox.start('data prepare long.yaml --json', HANG_UPS_STOP);
  await run.shown('data: reading words');
  run.child.kill('SIGHUP');
  const { code, stdout } = await run.ended;
  t.is(code, 130);
  t.is(errorCode(stdout), 'SLUICE_E_INTERRUPTED');
  t.deepEqual(
    readdirSync(join(sandbox.path, 'data', 'prepared')).filter((name) => name.startsWith('.')),
    [],
  );
});

test.serial('a run whose output nobody reads any more saves as others do', async (t) => {
  const run = sandbox.start(
    'train dense.yaml --run-dir unread --set training.steps=100000 checkpoint.everySteps=0',
  );
  await run.shown('1/100000');
  run.child.stdout!.destroy();
  run.child.stderr!.destroy();
  run.child.kill('SIGINT');
  t.is((await run.ended).code, 0);
  const { checkpoints } = await sandbox.json<{ checkpoints: { valid: boolean }[] }>('inspect unread');
  t.deepEqual(
    checkpoints.map(({ valid }) => valid),
    [true],
  );
});

test.serial('a second Ctrl-C ends everything at once with 130; the run goes on all the same', async (t) => {
  const run = sandbox.start(
    'train moe.yaml --workers 2 --run-dir twice --set training.steps=100000 checkpoint.everySteps=0',
  );
  await run.shown('1/100000');
  const workers = workersOf(run.child.pid!);
  t.is(workers.length, 2);
  // Stopped workers answer nothing: the orderly stop cannot end before the second signal comes.
  for (const worker of workers) process.kill(worker, 'SIGSTOP');
  run.child.kill('SIGINT');
  await run.shown('press Ctrl-C again');
  const repeat = setInterval(() => run.child.kill('SIGINT'), 100);
  const { code, stderr } = await run.ended;
  clearInterval(repeat);
  t.is(code, 130);
  t.regex(stderr, /aborted/);
  for (const worker of workers) t.true(await isGone(worker));
  t.is((await sandbox.json('resume twice --more-steps 1')).step, 1);
});
