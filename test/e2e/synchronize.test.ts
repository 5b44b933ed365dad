/** Replicas that train apart: the same bits on any number of workers, stopped anywhere, whatever their differences travel as. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly step: number;
  readonly trainLoss: number;
  readonly validationLoss: number;
  readonly weightsHash: string;
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const apart = '--set parallel.synchronize.replicas=2 --threads 1';
const every5 = '--set parallel.synchronize.everySteps=5';

const train = (kind: string, directory: string, flags: string) =>
  sandbox.json<Trained>(`train ${kind}.yaml --run-dir ${directory} ${apart} ${flags}`);

const lines = (directory: string, file: string) =>
  readFileSync(join(sandbox.path, directory, file), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** What the workers agreed on, step by step. */
const lossesOf = (directory: string) =>
  lines(directory, 'metrics.jsonl').map(({ loss, gradientNorm, validationLoss, lastUpdate }) => ({
    ...{ loss, gradientNorm, validationLoss, lastUpdate },
  }));

const layouts = {
  dense: ['--workers 4'],
  moe: ['--workers 4 --expert-parallel 2'],
} as const;

for (const [kind, outerGradients, everySteps, parts, overlapSteps] of [
  ['dense', 'float32', 5, 1, 0],
  ['moe', 'int8', 6, 2, 2],
] as const)
  test.serial(
    `${kind}, ${outerGradients}, ${parts} parts, over ${overlapSteps} steps: workers, stops, kills and resumes change nothing`,
    async (t) => {
      const settings = { outerGradients, everySteps, parts, overlapSteps };
      const outer = Object.entries(settings)
        .map(([key, value]) => `--set parallel.synchronize.${key}=${value}`)
        .join(' ');
      const quiet = `${kind}-quiet`;
      const one = await train(kind, quiet, `${outer} --workers 1`);
      for (const layout of layouts[kind]) {
        const directory = `${kind}${layout.replaceAll(' ', '')}`;
        const other = await train(kind, directory, `${outer} ${layout}`);
        t.is(other.weightsHash, one.weightsHash, layout);
        t.is(other.validationLoss, one.validationLoss, layout);
        t.deepEqual(lossesOf(directory), lossesOf(quiet), layout);
        t.deepEqual(lines(directory, 'diagnostics.jsonl'), lines(quiet, 'diagnostics.jsonl'), layout);
      }

      // Between two synchronizations, where each replica has weights and moments of its own, and after step 7 of the second run also
      // differences on their way; then killed at some moment, most of which are such.
      const stopped = `${kind}-stopped`;
      await train(kind, stopped, `${outer} --workers 2 --until-step 7`);
      const killed = sandbox.start(`resume ${stopped} --workers 4 --set checkpoint.everySteps=1`);
      await killed.shown('saved step 9');
      killed.child.kill('SIGKILL');
      await killed.ended;
      const resumed = await sandbox.json<Trained>(`resume ${stopped} --workers 1`);
      t.is(resumed.step, 12);
      t.deepEqual(await sandbox.json(`hash ${stopped}`), {
        ...(await sandbox.json<object>(`hash ${quiet}`)),
        ...pathOf(await sandbox.json<object>(`hash ${stopped}`)),
      });
      t.is(resumed.trainLoss, one.trainLoss);
    },
  );

/** What of an answer names the run. */
function pathOf(answer: object): object {
  return Object.fromEntries(
    Object.entries(answer).filter(([, value]) => typeof value === 'string' && value.includes('/')),
  );
}

test.serial('the weights between synchronizations are those of the last one', async (t) => {
  const at5 = await train('dense', 'dense-5', `${every5} --workers 2 --until-step 5`);
  const at8 = await train('dense', 'dense-8', `${every5} --workers 2 --until-step 8`);
  t.is(at8.weightsHash, at5.weightsHash);
  t.is(at8.validationLoss, at5.validationLoss);
  const together = await sandbox.json<Trained>(
    'train dense.yaml --run-dir dense-together --workers 1 --threads 1 --until-step 5',
  );
  t.not(together.weightsHash, at5.weightsHash);
  t.is(
    typeof (await sandbox.json<{ text: string }>('generate dense-8 --prompt the --max-tokens 3')).text,
    'string',
  );
});

test.serial('what replicas that train apart cannot do is refused', async (t) => {
  for (const [flags, message] of [
    ['--set parallel.synchronize.replicas=8', /replicas is 8, which does not divide the 4 lanes/],
    ['--set parallel.synchronize.overlapSteps=5', /overlapSteps is 5, .* Set it to 4 at most/],
    ['--set spikes.policy=rollback', /spikes\.policy is rollback, but replicas/],
  ] as const) {
    const { code, stderr } = await sandbox.start(
      `train dense.yaml --run-dir refused ${apart} ${every5} ${flags}`,
    ).ended;
    t.is(code, 1);
    t.regex(stderr, message);
    t.regex(stderr, /SLUICE_E_SYNCHRONIZE_INVALID/);
  }
});
