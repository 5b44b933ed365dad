/** What `npm pack` makes installs in an empty directory, with nothing of the repository, and trains there to the same bits. */

import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { Sandbox } from './support/sandbox.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** What npm says where there is neither its registry nor all that is needed in its cache. */
const UNREACHABLE = /ENOTCACHED|ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ENETUNREACH/;

function npm(directory: string, ...words: string[]) {
  const flags = ['--prefix', directory, '--no-audit', '--no-fund', '--loglevel=error', '--prefer-offline'];
  return spawnSync('npm', [...words, ...flags], {
    cwd: directory,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  });
}

/**
 * The repository packed, and installed as a user would.
 * @returns the folder of the package; undefined where what it depends on cannot be had
 */
function installPackage(t: ExecutionContext): string | undefined {
  const directory = temporaryDirectory(t);
  // What is packed was built before the tests began; building again would write what other tests are running.
  const packing = ['pack', repository, '--ignore-scripts', '--json', '--pack-destination', directory];
  const packed = npm(directory, ...packing);
  t.is(packed.status, 0, packed.stderr);
  const [{ filename }] = JSON.parse(packed.stdout);
  const installed = npm(directory, 'install', join(directory, filename));
  if (UNREACHABLE.test(installed.stderr)) return undefined;
  t.is(installed.status, 0, installed.stderr);
  return join(directory, 'node_modules', 'sluice');
}

interface Trained {
  readonly weightsHash: string;
  readonly runDir: string;
}

test('a package trains, resumes and answers outside of the repository, with and without its core', async (t) => {
  t.timeout(600_000);
  const folder = installPackage(t);
  if (folder === undefined) {
    t.log('skipped: what the package depends on cannot be had (npm’s registry cannot be reached)');
    t.pass();
    return;
  }
  const sandbox = new Sandbox(join(folder, 'launcher', 'bin', 'sluice.js'));
  const own = new Sandbox();
  t.teardown(() => {
    sandbox.dispose();
    own.dispose();
  });

  const version = await sandbox.start('--version').ended;
  t.is(version.stdout, '0.1.0\n', version.stderr);
  const { total } = await sandbox.json('count configs/quickstart.yaml');
  t.is(total, (await own.json('count configs/quickstart.yaml')).total);

  // Corpora are kept in the working directory, never in the package.
  const first = await sandbox.start('train dense.yaml --until-step 5 --json', { SLUICE_DATA: undefined })
    .ended;
  t.is(first.code, 0, first.stderr);
  t.true(existsSync(join(sandbox.path, 'data', 'prepared', 'tiny', 'manifest.json')));
  t.true(existsSync(join(sandbox.path, 'runs', 'dense', 'report.html')));
  const resumed = await sandbox.json<Trained>('resume runs/dense --workers 2');
  const quiet = await own.json<Trained>('train dense.yaml');
  t.is(resumed.weightsHash, quiet.weightsHash);

  // As after an installation without scripts, or without a compiler.
  rmSync(join(folder, 'packages', 'engine', 'build'), { recursive: true });
  const doctor = await sandbox.json<{ ok: boolean; mend: string[] }>('doctor');
  t.false(doctor.ok);
  const build = join(folder, 'packages', 'engine', 'native', 'build.js');
  t.true(
    doctor.mend.some((line) => line === `native core: node ${build}`),
    doctor.mend.join('\n'),
  );
  const plain = await sandbox.start('train dense.yaml --until-step 1 --run-dir plain --json').ended;
  t.is(plain.code, 0, plain.stderr);
  t.regex(plain.stderr, /the C\+\+ core is not there .*: the plain backend computes, which is much slower/);
});
