/** Bundles TensorFlow.js's test suite together with our backend, and runs it. */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import type { SuiteResult } from './environment.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const engine = fileURLToPath(new URL('../../../../packages/engine', import.meta.url));

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
    // Not strict: Jasmine 3 is not.
    tsconfigRaw: {},
    // Where the engine looks for the C++ core.
    define: { 'import.meta.url': JSON.stringify(pathToFileURL(join(engine, 'dist', 'native.js')).href) },
    logLevel: 'error',
  });
  return outfile;
}

export async function runSuite(program: string, backend: string): Promise<SuiteResult> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, backend], { maxBuffer: 1 << 26 });
  return JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as SuiteResult;
}
