/** What `npm start` does once everything is installed. */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { watchProcess } from '../support/running.ts';
import { Sandbox } from './support/sandbox.ts';

const script = fileURLToPath(new URL('../../scripts/quickstart.js', import.meta.url));

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

/** Two steps of the quickstart on the sandbox's small corpus. */
function quickstart(...flags: string[]) {
  const child = spawn(process.execPath, [script, join(sandbox.path, 'quick'), ...flags], {
    env: { ...process.env, SLUICE_DATA: join(sandbox.path, 'data') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return watchProcess(child).ended;
}

test('the quickstart trains, says whether its bits are this version’s, and goes on where it was stopped', async (t) => {
  const small = [
    `data.recipe=${join(sandbox.path, 'recipe.yaml')}`,
    'model.vocabularySize=320',
    'evaluation.everySteps=0',
  ];
  const first = await quickstart('--until-step', '1', '--threads', '1', '--set', ...small);
  t.is(first.code, 0, first.stderr);
  t.regex(first.stdout, /step {13}1 of 600/);
  t.regex(
    first.stdout,
    /The weights are not those that this version gives everywhere \([0-9a-f]{64}\): the run is at step 1/,
  );
  t.regex(first.stdout, /npx sluice generate /);
  const second = await quickstart('--more-steps', '1');
  t.is(second.code, 0, second.stderr);
  t.regex(second.stdout, /step {13}2 of 600/);
});
