/** `npm start`: installs, builds, and trains the quickstart model; goes on with it when it was stopped. */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { compareBits } from './quickstartBits.js';
import { root, setup } from './steps.js';

const runDirectory = join('runs', 'quickstart');

setup();
process.exitCode = await sluice(
  existsSync(join(root, runDirectory, 'config.yaml'))
    ? ['resume', runDirectory]
    : ['train', join('configs', 'quickstart.yaml'), '--run-dir', runDirectory],
);
if (process.exitCode === 0) {
  process.stdout.write(
    `\n${await compareBits(runDirectory)}\n` +
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
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  // npm passes signals on to a shell between it and this script, which dies of them without a word.
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    child.kill('SIGTERM');
  }, 200);
  watch.unref();
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => resolve(code ?? 1));
  });
}
