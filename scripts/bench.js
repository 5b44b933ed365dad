/** `npm run bench`: every measurement in turn, one JSON object a line on standard output. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, setup } from './steps.js';
import { scriptWords } from './words.js';

const MEASUREMENTS = [
  ...['dense-9m', 'moe-20m', 'dense-34m', 'hybrid-20m', 'tiny-100k'].map((shape) => [
    'bench',
    'step',
    '--shape',
    shape,
    '--profile',
  ]),
  ['bench', 'kernels'],
  ['bench', 'collectives', '--world', '2', '--mib', '64'],
];

scriptWords(import.meta.url);
setup();
for (const words of MEASUREMENTS) {
  const { status } = spawnSync(process.execPath, [join(root, 'launcher/bin/sluice.js'), ...words, '--json'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exitCode = 1;
}
