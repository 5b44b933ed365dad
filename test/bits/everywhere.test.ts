/**
 * The same bits on every CPU with a fused multiply-add: the core is built for several instruction sets, by each compiler that
 * is installed, and every operation and training must give what is stored here. (`npm run test:arm` does the same for NEON.)
 */

import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { engineReport, nativeBuildInfo, nativeCore } from '@sluice/engine';
import test, { type ExecutionContext } from 'ava';
import type { Bits } from './print.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const expected = JSON.parse(readFileSync(new URL('expected.json', import.meta.url), 'utf8')) as Bits;

/** Its name and version, where it is installed. */
function versionOf(compiler: string): string | undefined {
  try {
    return execFileSync(compiler, ['--version'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).split('\n')[0];
  } catch {
    return undefined;
  }
}

/** What this CPU can run, with the name of its vectors. */
function instructionSets(): Readonly<Record<string, string>> {
  if (process.arch !== 'x64') return { native: 'NEON', scalar: 'none' };
  const flags = process.platform === 'linux' ? readFileSync('/proc/cpuinfo', 'utf8') : '';
  return {
    ...(/\bavx512f\b/.test(flags) && { 'x86-64-v4': 'AVX-512' }),
    ...(/\bfma\b/.test(flags) && { 'x86-64-v3': 'AVX2' }),
    scalar: 'none',
  };
}

/** Whether the core that is installed, which has a test of its own, is by this compiler and for these vectors. */
function isInstalledCore(version: string, vectors: string): boolean {
  const nameless = (text: string) => text.replace(/^(c|g|clang)\+\+ /, '');
  return nameless(nativeBuildInfo().compiler ?? '') === nameless(version) && engineReport().simd === vectors;
}

const printBits = async (environment: Readonly<Record<string, string>>, threads: number): Promise<Bits> => {
  const { stdout } = await run(
    process.execPath,
    [fileURLToPath(new URL('./print.ts', import.meta.url)), '--threads', `${threads}`],
    { cwd: root, env: { ...process.env, ...environment } },
  );
  return JSON.parse(stdout) as Bits;
};

/** Every operation, by its name, and nothing else. */
function holdAgainstExpected(t: ExecutionContext, { arithmetic, hashes }: Bits): void {
  t.deepEqual(Object.keys(hashes), Object.keys(expected.hashes));
  // CPUs without a fused multiply-add have another arithmetic, and say so.
  if (arithmetic === `${expected.arithmetic}-unfused`) return;
  t.is(arithmetic, expected.arithmetic);
  for (const [operation, hash] of Object.entries(hashes)) t.is(hash, expected.hashes[operation]!, operation);
}

const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

test('every operation gives the expected bits in the installed core, on three threads', async (t) => {
  if (nativeCore()) holdAgainstExpected(t, await printBits({}, 3));
  else t.pass('there is no core');
});

for (const compiler of ['g++', 'clang++']) {
  const version = versionOf(compiler);
  for (const [march, vectors] of Object.entries(instructionSets())) {
    const declare = version === undefined || isInstalledCore(version, vectors) ? test.skip : test.serial;
    declare(`every operation gives the expected bits in a core for ${march} by ${compiler}`, async (t) => {
      t.timeout(600_000, 'compiling takes long on a busy machine');
      const environment = {
        CXX: compiler,
        SLUICE_MARCH: march,
        SLUICE_BUILD_DIR: join(directory, `${compiler}-${march}`),
      };
      await run(process.execPath, [join(root, 'packages/engine/native/build.js'), '--strict'], {
        env: { ...process.env, ...environment },
      });
      holdAgainstExpected(t, await printBits(environment, 1));
    });
  }
}
