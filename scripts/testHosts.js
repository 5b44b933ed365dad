/**
 * `npm run test:hosts`: the tests that need several hosts, which are made of namespaces of this machine (`test/hosts/support/lab.ts`).
 * They need Linux, root, OpenSSH's server and iptables; on Debian these are installed. What it cannot have it names, and skips.
 * Words after `--` are ava's: `npm run test:hosts -- --match '*cable*'`.
 */

import { join } from 'node:path';
import { root, run, setup } from './steps.js';
import { LAB_TOOLS, needNamespaces, needTools, PROGRAM_FOLDERS } from './tools.js';

needNamespaces('test:hosts');
needTools(LAB_TOOLS);
setup();
const ava = join(root, 'node_modules/ava/entrypoints/cli.mjs');
process.exitCode = run(process.execPath, [ava, '--config', 'ava.hosts.config.js', ...process.argv.slice(2)], {
  env: { ...process.env, PATH: PROGRAM_FOLDERS.join(':') },
});
