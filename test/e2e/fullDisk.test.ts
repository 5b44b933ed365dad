/** A disk that is full for a while ends no run, and what could not be written is owned up to. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { smallDisk } from '../support/smallDisk.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const train =
  'train dense.yaml --threads 1 --set training.steps=100000 --set checkpoint.everySteps=20 --run-dir';

test.serial('a run trains on while its disk is full, and saves when there is room again', async (t) => {
  const disk = smallDisk(t, '8m');
  if (!disk) return t.pass('no file system can be mounted here');
  const run = sandbox.start(`${train} ${join(disk.path, 'run')}`);
  await run.shown('saved step 20');
  disk.fill();
  await run.shown('could not be saved');
  await run.shown('metrics.jsonl has no lines from step');
  disk.free();
  await run.shown('metrics.jsonl is written again');
  run.child.kill('SIGTERM');
  const { code, stderr } = await run.ended;
  t.is(code, 0, stderr);
  const [last] = stderr.match(/saved step \d+: \S+(?!.*saved step)/s) ?? [];
  t.truthy(last);
  const inspected = await sandbox.json<{ checkpoints: { valid: boolean }[] }>(
    `inspect ${join(disk.path, 'run')}`,
  );
  t.true(inspected.checkpoints.every(({ valid }) => valid));
  // What was left of the saves that failed is gone.
  t.is(readdirSync(join(disk.path, 'run', 'checkpoints')).length, inspected.checkpoints.length);
});

test.serial('a run whose log cannot be written saves as others do', async (t) => {
  const bin = fileURLToPath(new URL('../../launcher/bin/sluice.js', import.meta.url));
  const full = openSync('/dev/full', 'w');
  const words = [...train.replace('=100000', '=30').split(' '), 'unheard', '--json'];
  const child = spawn(process.execPath, [bin, ...words], {
    cwd: sandbox.path,
    env: { ...process.env, SLUICE_DATA: join(sandbox.path, 'data') },
    stdio: ['ignore', 'pipe', full],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let stdout = '';
  child.stdout!.on('data', (chunk) => {
    stdout += chunk;
  });
  t.deepEqual(await once(child, 'close'), [0, null]);
  t.is(JSON.parse(stdout).step, 30);
});
