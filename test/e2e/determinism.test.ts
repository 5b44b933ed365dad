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

test.serial(
  'Muon, groups and adaptive clipping: layouts and resuming on others change nothing',
  async (t) => {
    const groups = 'embedding: {learningRateScale: 0.5}, norms: {weightDecay: 0.1}';
    const clip = 'clip: adaptive\n  adaptiveClip: {warmupSteps: 3, threshold: 0.5}';
    sandbox.write(
      'muon.yaml',
      `extends: moe.yaml\noptimizer:\n  kind: muon\n  groups: {${groups}}\n  ${clip}\n`,
    );
    const quiet = await sandbox.json<Trained>('train muon.yaml --run-dir muon-quiet --threads 1');
    for (const layout of layouts.moe) {
      const directory = `muon${layout.replaceAll(' ', '')}`;
      const other = await sandbox.json<Trained>(`train muon.yaml --run-dir ${directory} ${layout}`);
      t.is(other.weightsHash, quiet.weightsHash, layout);
      t.is(diagnosticsOf(directory), diagnosticsOf('muon-quiet'), layout);
    }
    await sandbox.json(
      'train muon.yaml --run-dir muon --workers 4 --expert-parallel 2 --threads 1 --until-step 5',
    );
    await sandbox.json('resume muon --workers 1 --more-steps 3');
    t.is((await sandbox.json<Trained>('resume muon --workers 2')).weightsHash, quiet.weightsHash);
    const [stopped, whole] = [
      await sandbox.json<Hashes>('hash muon'),
      await sandbox.json<Hashes>('hash muon-quiet'),
    ];
    t.is(stopped.optimizer, whole.optimizer);
    t.deepEqual(stopped.tensors, whole.tensors);
    t.true(Object.keys(whole.tensors).some((name) => name.startsWith('optimizer.momentum.')));
  },
);

test.serial(
  'a hybrid of mixers has the same bits in other layouts and after kills, and generates',
  async (t) => {
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
    const verified = await sandbox.json<{ identical: boolean; weightsHash: string }>(
      'verify-resume hybrid.yaml --workers 2 --threads 1 --kills 1 --seed 4',
    );
    t.true(verified.identical);
    t.is(verified.weightsHash, quiet.weightsHash);
    const { tokens } = await sandbox.json<{ tokens: number }>('generate hybrid --prompt the --max-tokens 20');
    t.is(tokens, 20);
  },
);

test.serial('gradients that travel as bfloat16: layouts and resuming on others change nothing', async (t) => {
  sandbox.write('rounded.yaml', 'extends: moe.yaml\nparallel:\n  gradients: bfloat16\n');
  const quiet = await sandbox.json<Trained>('train rounded.yaml --run-dir rounded-quiet --threads 1');
  t.not(quiet.weightsHash, (await sandbox.json<Hashes>('hash moe-quiet')).weights);
  await sandbox.json(
    'train rounded.yaml --run-dir rounded --workers 4 --expert-parallel 2 --threads 1 --until-step 5',
  );
  const change = '--set parallel.gradients=float32';
  const { code, stderr } = await sandbox.start(`resume rounded ${change}`).ended;
  t.is(code, 1);
  t.regex(stderr, /parallel\.gradients \(saved "bfloat16", now "float32"\).*--allow parallel\.gradients/);
  const resumed = await sandbox.json<Trained>('resume rounded --workers 2 --set parallel.expertParallel=1');
  t.is(resumed.weightsHash, quiet.weightsHash);
  t.is(resumed.validationLoss, quiet.validationLoss);
  t.is(diagnosticsOf('rounded'), diagnosticsOf('rounded-quiet'));
});

test.serial('QK-clip clips the same on other numbers of workers, and after a resume', async (t) => {
  const clip = 'model:\n  qkNorm: false\noptimizer:\n  qkClip: {threshold: 0.01}\n';
  sandbox.write('clipped.yaml', `extends: dense.yaml\n${clip}`);
  const quiet = await sandbox.json<Trained>('train clipped.yaml --run-dir clipped-quiet --threads 1');
  for (const layout of layouts.dense) {
    const directory = `clipped${layout.replaceAll(' ', '')}`;
    const other = await sandbox.json<Trained>(`train clipped.yaml --run-dir ${directory} ${layout}`);
    t.is(other.weightsHash, quiet.weightsHash, layout);
    t.is(diagnosticsOf(directory), diagnosticsOf('clipped-quiet'), layout);
  }
  await sandbox.json('train clipped.yaml --run-dir clipped --workers 4 --threads 1 --until-step 5');
  t.is((await sandbox.json<Trained>('resume clipped --workers 2')).weightsHash, quiet.weightsHash);
  const metrics = readFileSync(join(sandbox.path, 'clipped-quiet', 'metrics.jsonl'), 'utf8');
  const clipped = metrics
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).clippedHeads);
  t.true(
    clipped.some((heads) => heads > 0),
    clipped.join(),
  );
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

test.serial(
  'a batch that grows has the same bits on any number of workers, and is entered anywhere',
  async (t) => {
    sandbox.write(
      'ramp.yaml',
      'extends: moe.yaml\nbatch:\n  sequences: 32\n  ramp: {from: 8, increment: 8, steps: 7}\nschedule:\n  unit: tokens\n',
    );
    const quiet = await sandbox.json<Trained>('train ramp.yaml --run-dir ramp-quiet --workers 1 --threads 2');
    await sandbox.json<Trained>('train ramp.yaml --run-dir ramp --workers 4 --threads 1 --until-step 3');
    await sandbox.json<Trained>('resume ramp --workers 2 --until-step 6');
    const resumed = await sandbox.json<Trained>('resume ramp --workers 4');
    t.is(resumed.weightsHash, quiet.weightsHash);
    t.is(resumed.trainLoss, quiet.trainLoss);
    const samples = async (step: number) => {
      const { sequences } = await sandbox.json<{ sequences: { sample: number }[] }>(
        `inspect ramp --step ${step}`,
      );
      return sequences.map(({ sample }) => sample);
    };
    // 2 steps of 8, 2 of 16, 3 of 24.
    t.deepEqual(
      await samples(4),
      Array.from({ length: 16 }, (_, i) => 2 * 8 + 16 + i),
    );
    t.deepEqual(
      await samples(8),
      Array.from({ length: 32 }, (_, i) => 2 * 8 + 2 * 16 + 3 * 24 + i),
    );
    const lines = readFileSync(join(sandbox.path, 'ramp/metrics.jsonl'), 'utf8').trim().split('\n');
    const tokens = lines.map((line) => (JSON.parse(line) as { tokens: number }).tokens);
    t.is(tokens[3]! / tokens[0]!, 2);
    t.is(tokens[7]! / tokens[0]!, 4);
  },
);

test.serial(
  'experts that a bias balances have the same bits in other layouts, resume, and generate',
  async (t) => {
    const experts =
      'router: sigmoid, scalingFactor: 2.5, balanceCoefficient: 0.001, balanceBias: {rate: 0.01}';
    sandbox.write('balanced.yaml', `extends: moe.yaml\nmodel:\n  experts: {${experts}}\n`);
    const quiet = await sandbox.json<Trained>('train balanced.yaml --run-dir balanced-quiet --threads 2');
    await sandbox.json<Trained>(
      'train balanced.yaml --run-dir balanced --workers 4 --expert-parallel 2 --threads 1 --until-step 5',
    );
    await sandbox.json<Trained>('resume balanced --workers 1 --until-step 9');
    const resumed = await sandbox.json<Trained>('resume balanced --workers 2');
    t.is(resumed.weightsHash, quiet.weightsHash);
    t.is(diagnosticsOf('balanced'), diagnosticsOf('balanced-quiet'));
    const hashes = await sandbox.json<Hashes>('hash balanced');
    t.deepEqual(hashes.tensors, (await sandbox.json<Hashes>('hash balanced-quiet')).tensors);
    t.true('model.layers.1.mlp.gate.e_score_correction_bias' in hashes.tensors);
    const line = diagnosticsOf('balanced').trim().split('\n').at(-1)!;
    const { layers } = JSON.parse(line) as { layers: { router: { bias: number[]; biasRange: number } }[] };
    t.true(layers.every(({ router }) => router.bias.length === 4 && router.biasRange > 0));
    const { loss } = await sandbox.json<{ loss: number }>('evaluate balanced');
    t.true(Math.abs(loss - resumed.validationLoss) < 0.1);
    const { tokens } = await sandbox.json<{ tokens: number }>(
      'generate balanced --prompt the --max-tokens 3',
    );
    t.true(tokens > 0);
  },
);

test.serial('another seed gives other weights', async (t) => {
  const quiet = await sandbox.json<Hashes>('hash dense-quiet');
  const other = await sandbox.json<Trained>('train dense.yaml --run-dir dense-other --set seed=8');
  t.not(other.weightsHash, quiet.weights);
});
