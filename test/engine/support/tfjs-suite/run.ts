/** Bundles TensorFlow.js's test suite together with our backend, and runs it. */

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { build, type Plugin } from 'esbuild';
import type { SuiteResult } from './environment.ts';

const here = fileURLToPath(new URL('.', import.meta.url));

/** Our own files know where they lie, and addons are loaded from where they are installed. */
const places: Plugin = {
  name: 'places',
  setup({ onLoad, onResolve }) {
    onLoad({ filter: /packages.[a-z]+.dist.*\.js$/ }, async ({ path }) => ({
      contents: (await readFile(path, 'utf8')).replaceAll(
        'import.meta.url',
        JSON.stringify(pathToFileURL(path).href),
      ),
    }));
    onResolve({ filter: /^koffi$/ }, () => ({
      path: createRequire(import.meta.url).resolve('koffi'),
      external: true,
    }));
  },
};

/**
 * Bundles the suite. The tests reach into files of the core that its packed form does not have, so everything is built on
 * those files: there must be one core only.
 * @returns the program's path
 */
export async function bundleSuite(directory: string): Promise<string> {
  const outfile = join(directory, 'suite.cjs');
  await build({
    entryPoints: [join(here, 'main.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    mainFields: ['module', 'main'],
    // Within the bundle only: files of the core, plus what `@tensorflow/tfjs` registers with it.
    alias: { '@tensorflow/tfjs': join(here, 'tfjs.ts') },
    // The packages say that their tests have no side effects.
    ignoreAnnotations: true,
    plugins: [places],
    // Not strict: Jasmine 3 is not.
    tsconfigRaw: {},
    logLevel: 'error',
  });
  return outfile;
}

/** `cuda` is the emulated one, and without words about what it computes on the host. */
export async function runSuite(program: string, backend: string): Promise<SuiteResult> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--no-warnings', program, backend], {
    maxBuffer: 1 << 26,
    env: { ...process.env, SLUICE_CUDA: 'emulated' },
  });
  return JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as SuiteResult;
}
