/** The system's tools that a command of tests needs: found, or installed from Debian's packages, or the tests are skipped. */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './steps.js';

/** Where programs are looked for, those for root among them. */
export const PROGRAM_FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];

/** Says why nothing could be tested, in the words of a test runner, and ends the command. */
export function skip(reason, tests = 1) {
  process.stdout.write(`Skipped: ${reason}\n0 passed, 0 failed, ${tests} skipped\n`);
  process.exit(0);
}

export function hasTool(tool) {
  return PROGRAM_FOLDERS.some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Installs what is missing, where that is a matter of root and Debian's packages.
 * @param {Record<string, string>} tools programs, each with the package that has it
 * @param {number} [tests] how many are skipped where a tool cannot be had
 */
export function needTools(tools, tests) {
  const missing = () => Object.keys(tools).filter((tool) => !hasTool(tool));
  if (missing().length === 0) return;
  const packages = [...new Set(missing().map((tool) => tools[tool]))];
  const advice = `${missing().join(', ')} missing (Debian, as root: apt install ${packages.join(' ')}).`;
  // Under systemd, installing a daemon would start it for all the world.
  if (process.getuid?.() !== 0 || existsSync('/run/systemd/system') || !hasTool('apt-get'))
    skip(advice, tests);
  run('apt-get', ['update', '-qq']);
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages]);
  if (missing().length > 0) skip(advice, tests);
}

/** Skips all where this is not Linux, or namespaces cannot be made, as root in a container may not. */
export function needNamespaces(command, tests) {
  if (process.platform !== 'linux') skip('hosts are namespaces of Linux.', tests);
  if (process.getuid() !== 0) skip(`only root can make namespaces: sudo npm run ${command}`, tests);
  const { status, stderr } = spawnSync('unshare', ['--net', '--pid', '--fork', '--mount', 'true'], {
    encoding: 'utf8',
  });
  if (status !== 0) skip(`namespaces cannot be made here: ${stderr?.trim()}`, tests);
}

/** What the hosts of `test/hosts/support/lab.ts` are made with. */
export const LAB_TOOLS = {
  ip: 'iproute2',
  tc: 'iproute2',
  iptables: 'iptables',
  nsenter: 'util-linux',
  ssh: 'openssh-client',
  sshd: 'openssh-server',
};
