/**
 * `npm run gpu`: measures and checks the backend `cuda` on this machine's NVIDIA GPU, within ten minutes. `npm run gpu -- --help` says
 * how; docs/gpu.md, what each step means.
 */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, setup } from './steps.js';

setup();
const program = join(root, 'launcher/bundle/gpuKit.js');
const { status } = spawnSync(process.execPath, [program, ...process.argv.slice(2)], { stdio: 'inherit' });
process.exitCode = status ?? 1;
