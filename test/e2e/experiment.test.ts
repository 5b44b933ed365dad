/** Experiments as users run them: side by side, killed and gone on with, divergence a result like another. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExperimentResults, FindLrResults } from '@sluice/observe';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

sandbox.write(
  'rates.yaml',
  `title: "Three rates and a beginning"
base: dense.yaml
seeds: 2
findLr: { from: 1.0e-2, to: 5.0e+4, perOctave: 1, lossBound: 5.1 }
retrieval: [{ name: near, task: niah, length: 256, needles: 1, samples: 1, depths: [0.5] }]
rows:
  - { name: plain, method: "plain", set: ["model.gates=[]"], paper: { perplexity: 6.0 } }
  - { name: gated, method: "gated", set: ["model.gates=[{granularity: headwise}]"], paper: { perplexity: null } }
  - { name: wild, method: "far too fast", set: [optimizer.learningRate=1e30, optimizer.clipNorm=0] }
  - { name: later, method: "goes on from plain", from: plain, set: ["model.gates=[]", training.steps=6] }
`,
);

const resultsOf = (directory: string) =>
  readFileSync(join(sandbox.path, directory, 'rates-full', 'results.json'), 'utf8');

test.serial('an experiment runs all rows and seeds, and divergence is a result', async (t) => {
  const done = await sandbox.json<{ runs: number; finished: number; diverged: number }>(
    'experiment rates.yaml --directory quiet --jobs 2 --threads 1',
  );
  t.like(done, { runs: 8, finished: 6, diverged: 2 });
  const { rows, runs } = JSON.parse(resultsOf('quiet')) as ExperimentResults;
  t.is(rows[1]!.parameters.added, 2 * 32 * 4);
  t.deepEqual(
    runs.map(({ row, seed }) => `${row} ${seed}`),
    ['plain 1', 'plain 2', 'gated 1', 'gated 2', 'wild 1', 'wild 2', 'later 1', 'later 2'],
  );
  for (const { row, outcome, reason, step, validationLoss, diagnosis, retrieval, weightsHash } of runs) {
    if (row === 'wild') {
      t.is(outcome, 'diverged');
      t.regex(reason!, /^stopped after step \d+: its values were no finite numbers$/);
      t.true(step < 12);
      continue;
    }
    t.true(validationLoss! < Math.log(320));
    t.true(diagnosis!.firstTokenAttention! > 0);
    t.true(retrieval!.near!.answerLoss > 0);
    t.is(diagnosis!.gateScoreMean === null, row !== 'gated');
    t.regex(weightsHash!, /^[0-9a-f]{64}$/);
  }
  const [plain, later] = [runs[0]!, runs[6]!];
  t.true(later.curve.loss[0]! < plain.curve.loss[0]!);
  t.not(later.weightsHash, plain.weightsHash);
});

test.serial('an experiment that is done is not run again', async (t) => {
  const before = resultsOf('quiet');
  const { stderr } = await sandbox.start('experiment rates.yaml --directory quiet --json').ended;
  t.regex(stderr, /8 of 8 runs are done already/);
  t.is(resultsOf('quiet'), before);
});

sandbox.write(
  'claims.yaml',
  `title: Two claims
claims:
  - id: 1
    claim: A gate changes next to nothing.
    source: nowhere
    tests: [{ kind: compare, experiment: rates.yaml, row: gated, than: plain, expect: same, by: 1 }]
    decides: nothing
  - id: 2
    claim: A rate that is far too high diverges.
    source: nowhere
    tests: [{ kind: compare, experiment: rates.yaml, row: plain, than: wild, expect: lower }]
    decides: nothing
`,
);

test.serial('claims are judged by the runs of experiments that are done', async (t) => {
  const words = 'claims claims.yaml --scale full --directory quiet --json';
  const { code, stdout, stderr } = await sandbox.start(words).ended;
  t.is(code, 0, stderr);
  t.regex(stderr, /6 of 6 runs are done already/);
  const { failed, claims } = JSON.parse(stdout);
  t.is(failed, 0);
  t.like(claims[0], { verdict: 'supported', seeds: 2 });
  t.is(
    claims[1].tests[0].text,
    'validationLoss of plain to wild: wild diverged with every seed, plain with none',
  );
  const page = readFileSync(join(sandbox.path, 'quiet', 'claims-full', 'claims.md'), 'utf8');
  t.regex(page, /A rate that is far too high diverges\./);
});

test.serial(
  'an experiment that was killed and interrupted comes to the same table, to the byte',
  async (t) => {
    const words = 'experiment rates.yaml --seeds 1 --directory killed';
    for (const [signal, after] of [
      ['SIGKILL', 2500],
      ['SIGTERM', 4000],
      ['SIGKILL', 3000],
    ] as const) {
      const running = sandbox.start(`${words} --jobs 2 --threads 1`);
      await delay(after);
      running.child.kill(signal);
      t.not((await running.ended).code, 1);
    }
    await sandbox.json(`${words} --jobs 1 --threads 2`);
    const quiet = JSON.parse(resultsOf('quiet')) as ExperimentResults;
    const first = { ...quiet, seeds: [1], runs: quiet.runs.filter(({ seed }) => seed === 1) };
    t.is(resultsOf('killed'), `${JSON.stringify(first, undefined, 1)}\n`);
  },
);

test.serial('the largest stable rate of a row and seed lies between two that were tried', async (t) => {
  await sandbox.json('find-lr rates.yaml --rows gated --seeds 1 --directory rates --jobs 2 --threads 1');
  const path = join(sandbox.path, 'rates', 'rates-full', 'find-lr', 'find-lr.json');
  const { variants, resolution, notTried } = JSON.parse(readFileSync(path, 'utf8')) as FindLrResults;
  t.is(resolution, 2);
  t.deepEqual(
    variants.map(({ name, seeds }) => [name, seeds.length]),
    [['gated', 1]],
  );
  const { probes, largestStable, smallestUnstable } = variants[0]!.seeds[0]!;
  const of = (rate: number | null) => probes.find(({ learningRate }) => learningRate === rate)?.outcome;
  t.is(of(largestStable), 'stable');
  t.is(of(smallestUnstable), 'unstable');
  t.true(Math.abs(smallestUnstable! / largestStable! - 2) < 0.01);
  t.regex(notTried.at(-1)!, /is assumed/);
});

test.serial('a row that is not there is refused before anything is made', async (t) => {
  const missing = await sandbox.start('experiment rates.yaml --rows plain,gatd').ended;
  t.is(missing.code, 2);
  t.regex(missing.stderr, /has no row "gatd"; its rows: plain, gated, wild, later/);
  t.false(existsSync(join(sandbox.path, 'experiments')));
});
