/** The first promise: the same bits, whatever the number of workers and threads, and however often it was stopped. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly runDir: string;
  readonly step: number;
  readonly trainLoss: number;
  readonly validationLoss: number;
  readonly weightsHash: string;
}

interface Hashes {
  readonly weights: string;
  readonly optimizer: string;
  readonly tensors: Readonly<Record<string, string>>;
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

/** What was measured inside the model while it trained. */
const diagnosticsOf = (directory: string) =>
  readFileSync(join(sandbox.path, directory, 'diagnostics.jsonl'), 'utf8');

/** What the model wrote while it trained. */
const samplesOf = (directory: string) =>
  readFileSync(join(sandbox.path, directory, 'samples.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { step: number; prompt: string; text: string });

const SAMPLES =
  '--set observe.samples.everySteps=4 --set observe.samples.maxTokens=70 --set observe.samples.prompts=["A","some","the"]';

/** The sizes of all updates, as the metrics have them. */
const updatesOf = (directory: string) =>
  readFileSync(join(sandbox.path, directory, 'metrics.jsonl'), 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => (JSON.parse(line) as { lastUpdate?: { overall: number } }).lastUpdate);

const layouts = {
  dense: ['--workers 1 --threads 2', '--workers 2 --threads 1', '--workers 4 --threads 1'],
  moe: [
    '--workers 1 --threads 2',
    '--workers 2 --threads 1 --expert-parallel 1',
    '--workers 2 --threads 1 --expert-parallel 2',
    '--workers 4 --threads 1 --expert-parallel 2',
  ],
};

for (const kind of ['dense', 'moe'] as const) {
  test.serial(
    `${kind}: no number of workers, expert-parallel parts or threads changes the weights`,
    async (t) => {
      const quiet = await sandbox.json<Trained>(`train ${kind}.yaml --run-dir ${kind}-quiet --threads 1`);
      t.is(quiet.step, 12);
      t.regex(quiet.weightsHash, /^[0-9a-f]{64}$/);
      let samples: ReturnType<typeof samplesOf> | undefined;
      for (const layout of layouts[kind]) {
        const directory = `${kind}${layout.replaceAll(' ', '')}`;
        const other = await sandbox.json<Trained>(
          `train ${kind}.yaml --run-dir ${directory} ${layout} ${SAMPLES}`,
        );
        t.is(other.weightsHash, quiet.weightsHash, layout);
        t.is(other.trainLoss, quiet.trainLoss, layout);
        t.is(other.validationLoss, quiet.validationLoss, layout);
        t.is(diagnosticsOf(directory), diagnosticsOf(`${kind}-quiet`), layout);
        t.deepEqual(updatesOf(directory), updatesOf(`${kind}-quiet`), layout);
        samples ??= samplesOf(directory);
        t.deepEqual(samplesOf(directory), samples, layout);
      }
      t.deepEqual(
        samples!.map(({ step, prompt }) => `${step} ${prompt}`),
        [4, 8, 12].flatMap((step) => ['A', 'some', 'the'].map((prompt) => `${step} ${prompt}`)),
      );
      t.true(samples!.every(({ text }) => text !== ''));
    },
  );

  test.serial(`${kind}: stopping, and resuming on other numbers of workers, changes nothing`, async (t) => {
    const resume = (flags: string) => sandbox.json<Trained>(`resume ${kind}-stopped ${flags}`);
    const first = await sandbox.json<Trained>(
      `train ${kind}.yaml --run-dir ${kind}-stopped --workers 2 --until-step 5`,
    );
    t.is(first.step, 5);
    t.is((await resume('--workers 4 --more-steps 2')).step, 7);
    t.is((await resume('--workers 1')).step, 12);
    const stopped = await sandbox.json<Hashes>(`hash ${kind}-stopped`);
    const quiet = await sandbox.json<Hashes>(`hash ${kind}-quiet`);
    t.is(stopped.weights, quiet.weights);
    t.is(stopped.optimizer, quiet.optimizer);
    t.deepEqual(stopped.tensors, quiet.tensors);
    t.is(diagnosticsOf(`${kind}-stopped`), diagnosticsOf(`${kind}-quiet`));
    const updates = updatesOf(`${kind}-stopped`);
    t.deepEqual(updates, updatesOf(`${kind}-quiet`));
    t.is(updates[0], undefined);
    t.true(updates.slice(1).every((update) => update!.overall > 0));
  });
}

test.serial('a hybrid of mixers has the same bits in other layouts, resumes, and generates', async (t) => {
  const linear = '{mixer: {kind: gated-delta-net, keyHeads: 1, valueHeads: 2, keyDim: 8, valueDim: 8}}';
  const kinds = `{linear: ${linear}, conv: {mixer: {kind: short-convolution}}, near: {window: 9}}`;
  sandbox.write(
    'hybrid.yaml',
    `extends: dense.yaml\nmodel:\n  numLayers: 3\n  layers: {kinds: ${kinds}, pattern: [linear, conv, near]}\n`,
  );
  const quiet = await sandbox.json<Trained>('train hybrid.yaml --run-dir hybrid-quiet --threads 2');
  await sandbox.json('train hybrid.yaml --run-dir hybrid --workers 2 --threads 1 --until-step 5');
  t.is((await sandbox.json<Trained>('resume hybrid --workers 4')).weightsHash, quiet.weightsHash);
  t.is(diagnosticsOf('hybrid'), diagnosticsOf('hybrid-quiet'));
  const { tokens } = await sandbox.json<{ tokens: number }>('generate hybrid --prompt the --max-tokens 20');
  t.is(tokens, 20);
});

test.serial('variants in plain operations have the same bits in other layouts, and resume', async (t) => {
  const gates = '{granularity: headwise}, {position: value, sharing: head-shared, activation: silu}';
  const norms =
    '{kind: sandwich-norm, initialGain: depth-scaled}, {kind: softcap, attention: 50, logits: 30}';
  const controls = `{kind: switch-head, count: 4, topK: 2}, {kind: attention-sink}, ${norms}`;
  sandbox.write(
    'variants.yaml',
    `extends: moe.yaml\nmodel:\n  gate: null\n  gates: [${gates}]\n  controls: [${controls}]\n`,
  );
  const quiet = await sandbox.json<Trained>('train variants.yaml --run-dir variants-quiet --threads 1');
  await sandbox.json<Trained>(
    'train variants.yaml --run-dir variants --workers 2 --expert-parallel 2 --threads 1 --until-step 7',
  );
  const resumed = await sandbox.json<Trained>('resume variants --workers 4');
  t.is(resumed.step, quiet.step);
  t.is(resumed.weightsHash, quiet.weightsHash);
});

test.serial('another seed gives other weights', async (t) => {
  const quiet = await sandbox.json<Hashes>('hash dense-quiet');
  const other = await sandbox.json<Trained>('train dense.yaml --run-dir dense-other --set seed=8');
  t.not(other.weightsHash, quiet.weights);
});
