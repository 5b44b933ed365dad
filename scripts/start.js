/** `npm start`: installs, builds, and trains the quickstart model; goes on with it when it was stopped. */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { compareBits } from './quickstartBits.js';
import { root, setup } from './steps.js';

const runDirectory = join('runs', 'quickstart');

setup();
// What is imported here, setup has built.
const { prepareForHangUp } = await import('../launcher/dist/signals/hangUp.js');
const { watchNpmParent } = await import('../launcher/dist/signals/parentWatch.js');
prepareForHangUp(() => {});
process.exitCode = await sluice(
  existsSync(join(root, runDirectory, 'config.yaml'))
    ? ['resume', runDirectory]
    : ['train', join('configs', 'quickstart.yaml'), '--run-dir', runDirectory],
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
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  const unwatch = watchNpmParent(() => child.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => {
      unwatch();
      resolve(code ?? 1);
    });
  });
}
