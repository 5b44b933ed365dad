import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { SuiteResult } from './support/tfjs-suite/environment.ts';
import { bundleSuite, runSuite } from './support/tfjs-suite/run.ts';

/** Specs that TensorFlow.js declares for the backend that is called `cpu`, and for no other. */
const FOR_CPU_ALONE = [
  'Switching cpu backends Move data from cpu1 to cpu2 backend',
  'Switching cpu backends can execute op with data from mixed backends',
];

function describeFailures({ failed }: SuiteResult): string {
  const shown = failed.slice(0, 20).map(({ name, messages }) => `${name}\n    ${messages.join('\n    ')}`);
  return `${failed.length} specs failed:\n${shown.join('\n')}`;
}

test('TensorFlow.js’s own test suite passes on native and on emulated cuda, as on the plain backend', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'sluice-tfjs-suite-'));
  try {
    const program = await bundleSuite(directory);
    const run = (backend: string) => runSuite(program, backend);
    const [native, cuda, plain] = await Promise.all([run('native'), run('cuda'), run('cpu')]);
    t.is(plain.failed.length, 0, describeFailures(plain));
    t.is(plain.passed.length, 4227);
    const expected = plain.passed.filter((name) => !FOR_CPU_ALONE.includes(name));
    for (const [name, result] of Object.entries({ native, cuda })) {
      t.is(result.failed.length, 0, `${name}: ${describeFailures(result)}`);
      t.deepEqual(result.passed, expected, name);
      t.deepEqual(result.skipped, plain.skipped, name);
    }
    t.log(`${native.passed.length} specs passed, ${native.skipped.length} are skipped by the suite itself`);
  } finally {
    await rm(directory, { recursive: true });
  }
});
