/**
 * `npm run test:slurm`: the batch scripts of `sluice launch --on slurm` on a real Slurm cluster of four nodes, which is set up for it
 * on this machine out of Debian's packages (as root), in namespaces of its own, and is gone afterwards. What it cannot have it
 * names, and skips.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, run, setup } from './steps.js';

const TOOLS = ['sbatch', 'slurmctld', 'slurmd', 'munged', 'unshare', 'ip'];

const isThere = (command) => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0;
const missing = () => TOOLS.filter((command) => !isThere(command));

/** Says why nothing could be tested, in the words of a test runner. */
function skip(reason) {
  process.stdout.write(`Skipped: ${reason}\n0 passed, 0 failed, 1 skipped\n`);
  process.exit(0);
}

function installTools() {
  if (process.platform !== 'linux' || process.getuid() !== 0) {
    skip('namespaces and daemons need root, on Linux.');
  }
  if (missing().length > 0 && isThere('apt-get')) {
    run('apt-get', ['update', '-qq']);
    run('apt-get', ['install', '-y', '-qq', 'slurm-wlm', 'munge', 'iproute2', 'util-linux']);
  }
  if (missing().length > 0) {
    skip(`${missing().join(', ')} are missing (Debian: apt install slurm-wlm munge iproute2).`);
  }
}

setup();
installTools();
const directory = mkdtempSync(join(tmpdir(), 'sluice-slurm-'));
const namespaces = ['--mount', '--net', '--pid', '--uts', '--ipc', '--fork', '--kill-child', '--mount-proc'];
// The first process of a namespace takes over all that lose their parents, and must wait for them, which a shell does.
const asFirst = ['bash', '-c', '"$@"; exit $?', 'first', process.execPath, '--import=tsx'];
const { status } = spawnSync(
  'unshare',
  [...namespaces, ...asFirst, join(root, 'test/slurm/scenarios.js'), directory, ...process.argv.slice(2)],
  { stdio: 'inherit' },
);
if (status === 0) rmSync(directory, { recursive: true, force: true });
else process.stderr.write(`Logs are in ${directory}\n`);
process.exitCode = status ?? 1;
