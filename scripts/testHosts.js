/**
 * `npm run test:hosts`: the tests that need several hosts, which are made of namespaces of this machine (`test/hosts/support/lab.ts`).
 * They need Linux, root, OpenSSH's server and iptables; on Debian these are installed. What it cannot have it names, and skips.
 * Words after `--` are ava's: `npm run test:hosts -- --match '*cable*'`. With `--faults N` hosts are hit at random instead
 * (`test/hosts/faults.ts`), N times.
 */

import { join } from 'node:path';
import { root, run, setup } from './steps.js';
import { LAB_TOOLS, needNamespaces, needTools, PROGRAM_FOLDERS } from './tools.js';
import { showHelp } from './words.js';

showHelp(import.meta.url);
needNamespaces('test:hosts');
needTools(LAB_TOOLS);
setup();
const words = process.argv.slice(2);
const env = { ...process.env, PATH: PROGRAM_FOLDERS.join(':') };
const ava = [join(root, 'node_modules/ava/entrypoints/cli.mjs'), '--config', 'ava.hosts.config.js'];
const faults = ['--import=tsx', join(root, 'test/hosts/faults.ts')];
process.exitCode = run(
  process.execPath,
  [...(words.some((word) => word.startsWith('--faults')) ? faults : ava), ...words],
  { env },
);
