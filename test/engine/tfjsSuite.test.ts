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

test('TensorFlow.js’s own test suite passes on the native backend, as on the plain one', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'sluice-tfjs-suite-'));
  try {
    const program = await bundleSuite(directory);
    const [native, plain] = await Promise.all([runSuite(program, 'native'), runSuite(program, 'cpu')]);
    t.is(native.failed.length, 0, describeFailures(native));
    t.is(plain.failed.length, 0, describeFailures(plain));
    t.is(plain.passed.length, 4227);
    t.deepEqual(
      native.passed,
      plain.passed.filter((name) => !FOR_CPU_ALONE.includes(name)),
    );
    t.deepEqual(native.skipped, plain.skipped);
    t.log(`${native.passed.length} specs passed, ${native.skipped.length} are skipped by the suite itself`);
  } finally {
    await rm(directory, { recursive: true });
  }
});
