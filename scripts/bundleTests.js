/**
 * Puts the tests and what they import into few files: of a test file's time, most was compiling and loading hundreds of modules.
 * ava gets the sources' names, and loads the bundled files by `bundledTest.cjs`.
 */

import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import { build } from 'esbuild';
import { BUNDLE_OPTIONS, ownPlaces, THREADS, tensorsOnly, withoutUnused } from './bundling.js';
import { root } from './steps.js';

/** Each run has a folder of its own, since files may change, or another run begin, while it lasts. */
const FOLDERS = join(root, '.test-build');
const REPRODUCIBLE = join(root, 'test/support/reproducible.ts');

/** What tests start as processes, by its file. */
const PROGRAMS = [
  'launcher/src/backends/gpuEntry.ts',
  'launcher/src/gpuKit.ts',
  'launcher/src/worker.ts',
  'test/bits/print.ts',
  'test/collectives/worker.ts',
  'test/launcher/support/workerProcess.js',
  'test/train/cudaWorker.ts',
  'test/train/linkWorker.ts',
  'test/train/recheckWorker.ts',
  'test/train/replicasWorker.ts',
  'test/train/routingWorker.ts',
].map((file) => join(root, file));

const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
/** Libraries of which tests use files, that have native parts, or of which ava must be the one that runs. */
const EXTERNAL = Object.keys({ ...dependencies, ...devDependencies }).filter(
  (name) => name !== 'fast-check' && name !== '@tensorflow/tfjs',
);

/** All lie in one folder, as `test+engine+rmsNorm.test`. */
function nameInBundle(file) {
  return relative(root, file)
    .replace(/\.[jt]s$/, '')
    .replaceAll(sep, '+');
}

/** Property-based tests get fast-check with its seed. */
const reproducible = {
  name: 'reproducible',
  setup({ onResolve }) {
    onResolve({ filter: /^fast-check$/ }, ({ importer }) =>
      importer === REPRODUCIBLE ? undefined : { path: REPRODUCIBLE },
    );
  },
};

/** The files of a run whose command line names files alone, otherwise all. */
function testFiles() {
  const named = process.argv.slice(2).filter((word) => !word.startsWith('-'));
  const all = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => join(root, 'test', file));
  const files = named.map((file) => resolve(file));
  return files.length > 0 && files.every((file) => all.includes(file)) ? files : all;
}

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function clear() {
  mkdirSync(FOLDERS, { recursive: true });
  for (const pid of readdirSync(FOLDERS)) {
    if (!isRunning(Number(pid))) rmSync(join(FOLDERS, pid), { recursive: true, force: true });
  }
}

/** @returns the folder, which goes when this process ends */
export async function bundleTests() {
  clear();
  const out = join(FOLDERS, `${process.pid}`);
  process.once('exit', () => rmSync(out, { recursive: true, force: true }));
  const started = [...PROGRAMS, ...THREADS];
  const programs = new Map(started.map((file) => [file, `${nameInBundle(file)}.js`]));
  await Promise.all(
    [[...testFiles(), ...PROGRAMS], THREADS].map((files) =>
      build({
        ...BUNDLE_OPTIONS,
        entryPoints: files.map((file) => ({ in: file, out: nameInBundle(file) })),
        outdir: out,
        chunkNames: 'chunk-[hash]',
        external: EXTERNAL,
        plugins: [reproducible, ownPlaces({ out, programs }), tensorsOnly, withoutUnused],
      }),
    ),
  );
  return out;
}
