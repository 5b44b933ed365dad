/** Steps that the scripts share. Plain Node: they run before anything is installed. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Runs a command in the repository; its output goes to standard error, so that standard output stays the caller's. */
export function run(command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ['inherit', process.stderr, 'inherit'],
    shell: process.platform === 'win32',
    ...options,
  });
  if (error) throw error;
  return status ?? (signal === null ? 1 : 130);
}

/** Runs a command, and ends this process with its code when it fails. */
export function runOrExit(command, args, options) {
  const code = run(command, args, options);
  if (code === 0) return;
  process.stderr.write(`\n${[command, ...args].join(' ')} failed (exit code ${code}).\n`);
  process.exit(code);
}

/**
 * Whether node_modules holds what the lockfile asks for. npm itself notes at the end of every installation what it
 * installed, so an interrupted one has no such note. Packages for other platforms are never installed.
 */
function isInstalled() {
  const wanted = lockedPackages('package-lock.json');
  const installed = lockedPackages(join('node_modules', '.package-lock.json'));
  if (!wanted || !installed) return false;
  for (const [path, { version, optional, link }] of Object.entries(wanted)) {
    if (!path.startsWith('node_modules/') || link) continue;
    const there = installed[path];
    if (there ? there.version !== version : !optional) return false;
  }
  return true;
}

function lockedPackages(lockfile) {
  try {
    return JSON.parse(readFileSync(join(root, lockfile), 'utf8')).packages;
  } catch {
    return undefined;
  }
}

/** Installs the packages of the lockfile, unless they are there. */
export function install() {
  if (isInstalled()) return;
  process.stderr.write('Installing packages (npm ci)…\n');
  // The build follows in any case; npm's own lifecycle need not do it too.
  runOrExit('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    env: { ...process.env, SLUICE_SKIP_PREPARE: '1' },
  });
}

/** The steps of a build, each as the arguments of Node: the C++ core, the TypeScript, what is started of it in few files. */
export const BUILD_STEPS = [
  [join(root, 'packages/engine/native/build.js')],
  [join(root, 'node_modules/typescript/bin/tsc'), '--build', 'launcher'],
  [join(root, 'scripts/bundle.js')],
];

/** Builds everything; the core and the TypeScript skip what is up to date, and the bundle takes a second. */
export function build() {
  for (const step of BUILD_STEPS) runOrExit(process.execPath, step);
}

/** Everything that must be done before Sluice can run; quick when it was done before. */
export function setup() {
  install();
  build();
}
