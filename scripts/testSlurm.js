/**
 * `npm run test:slurm`: the batch scripts of `sluice launch --on slurm` on a real Slurm cluster of four nodes, which is set up for it
 * on this machine out of Debian's packages (as root), in namespaces of its own, and is gone afterwards. What it cannot have it
 * names, and skips. `npm run test:slurm -- array` tries only what has the word in its name.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, setup } from './steps.js';
import { needNamespaces, needTools } from './tools.js';
import { scriptWords } from './words.js';

const TOOLS = {
  sbatch: 'slurm-wlm',
  slurmctld: 'slurm-wlm',
  slurmd: 'slurm-wlm',
  munged: 'munge',
  unshare: 'util-linux',
  ip: 'iproute2',
};

const filter = scriptWords(import.meta.url, { most: 1 }).positionals;
needNamespaces('test:slurm');
needTools(TOOLS);
setup();
const directory = mkdtempSync(join(tmpdir(), 'sluice-slurm-'));
const namespaces = ['--mount', '--net', '--pid', '--uts', '--ipc', '--fork', '--kill-child', '--mount-proc'];
// The first process of a namespace takes over all that lose their parents, and must wait for them, which a shell does.
const asFirst = ['bash', '-c', '"$@"; exit $?', 'first', process.execPath, '--import=tsx'];
const { status } = spawnSync(
  'unshare',
  [...namespaces, ...asFirst, join(root, 'test/slurm/scenarios.js'), directory, ...filter],
  { stdio: 'inherit' },
);
if (status === 0) rmSync(directory, { recursive: true, force: true });
else process.stderr.write(`Logs are in ${directory}\n`);
process.exitCode = status ?? 1;
