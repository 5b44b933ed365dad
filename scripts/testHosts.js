/**
 * `npm run test:hosts`: the tests that need several hosts, which are made of namespaces of this machine (`test/hosts/support/lab.ts`).
 * They need Linux, root, OpenSSH's server and iptables; on Debian these are installed. What it cannot have it names, and skips.
 * Words after `--` are ava's: `npm run test:hosts -- --match '*cable*'`.
 */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { join } from 'node:path';
import { root, run, setup } from './steps.js';

/** What each is in Debian. */
const TOOLS = {
  ip: 'iproute2',
  tc: 'iproute2',
  iptables: 'iptables',
  nsenter: 'util-linux',
  ssh: 'openssh-client',
  sshd: 'openssh-server',
};
const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];

function isThere(tool) {
  return FOLDERS.some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const missing = () => Object.keys(TOOLS).filter((tool) => !isThere(tool));

/** Says why nothing could be tested, in the words of a test runner. */
function skip(reason) {
  process.stdout.write(`Skipped: ${reason}\n0 passed, 0 failed\n`);
  process.exit(0);
}

function installTools() {
  if (missing().length === 0) return;
  const packages = [...new Set(missing().map((tool) => TOOLS[tool]))].join(' ');
  const advice = `${missing().join(', ')} missing (Debian: apt install ${packages}).`;
  // There, installing sshd would start it for all the world.
  if (existsSync('/run/systemd/system') || spawnSync('apt-get', ['--version']).status !== 0) skip(advice);
  run('apt-get', ['update', '-qq']);
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages.split(' ')]);
  if (missing().length > 0) skip(advice);
}

/** Whether a network namespace can be made: root in a container may not. */
function refusal() {
  const { status, stderr } = spawnSync('unshare', ['--net', '--pid', '--fork', '--mount', 'true'], {
    encoding: 'utf8',
  });
  return status === 0 ? undefined : stderr.trim();
}

if (process.platform !== 'linux') skip('hosts are namespaces of Linux.');
if (process.getuid() !== 0) skip('only root can make namespaces: sudo npm run test:hosts');
const refused = refusal();
if (refused !== undefined) skip(`namespaces cannot be made here: ${refused}`);
installTools();
setup();
const ava = join(root, 'node_modules/ava/entrypoints/cli.mjs');
process.exitCode = run(process.execPath, [ava, '--config', 'ava.hosts.config.js', ...process.argv.slice(2)], {
  env: { ...process.env, PATH: FOLDERS.join(':') },
});
