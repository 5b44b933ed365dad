/** Trains the quickstart model, or goes on with it, and says whether its weights are the bits of this version. */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { prepareForHangUp } from '../launcher/dist/signals/hangUp.js';
import { watchParent } from '../launcher/dist/signals/parentWatch.js';
import { compareBits } from './quickstartBits.js';
import { root } from './steps.js';

const flags = process.argv.slice(2);
const runDirectory = flags[0]?.startsWith('-') === false ? flags.shift() : join('runs', 'quickstart');

prepareForHangUp(() => {});
process.exitCode = await sluice(
  existsSync(resolve(root, runDirectory, 'config.yaml'))
    ? ['resume', runDirectory, ...flags]
    : ['train', join('configs', 'quickstart.yaml'), '--run-dir', runDirectory, ...flags],
);
if (process.exitCode === 0) {
  process.stdout.write(
    `\n${compareBits(runDirectory)}\n` +
      `\nSample from it:  npx sluice generate ${runDirectory} --prompt "a kind of"\n` +
      `Train it again:  npx sluice train configs/quickstart.yaml --run-dir runs/another\n`,
  );
}

/** Runs the command line beside this process and passes signals on: it saves, and then ends by itself. */
function sluice(words) {
  const child = spawn(process.execPath, [join(root, 'launcher/bin/sluice.js'), ...words], {
    cwd: root,
    stdio: 'inherit',
  });
  // The command knows what a hang-up means; here it only must not end the one who waits for the command.
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.on(signal, () => child.kill(signal));
  }
  const unwatch = watchParent(() => child.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => {
      unwatch();
      resolve(code ?? 1);
    });
  });
}
