/** `sluice` on the `cuda` backend, its kernels on the emulator. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cudaDriver } from '@sluice/engine';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

process.env.SLUICE_CUDA = 'emulated';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());
sandbox.write(
  'cuda.yaml',
  `backend: cuda
model: { vocabularySize: 320, hiddenSize: 32, numLayers: 1, numAttentionHeads: 2, numKeyValueHeads: 1, headDim: 32, intermediateSize: 48 }
data: { recipe: recipe.yaml, sequenceLength: 16 }
parallel: { lanes: 2 }
batch: { sequences: 2, grainSequences: 1 }
training: { steps: 4 }
optimizer: { learningRate: 0.01 }
evaluation: { everySteps: 4, sequences: 2 }
`,
);

interface Trained {
  readonly weightsHash: string;
  readonly trainLoss: number;
  readonly validationLoss: number;
}

const train = (options: string) => sandbox.json<Trained>(`train cuda.yaml ${options}`);

test.serial('stopped and gone on with by more workers, a run has the weights of a quiet one', async (t) => {
  const quiet = await train('--run-dir quiet');
  await train('--run-dir stopped --until-step 2');
  const { weightsHash, trainLoss } = await sandbox.json<Trained>('resume stopped --workers 2');
  t.deepEqual({ weightsHash, trainLoss }, { weightsHash: quiet.weightsHash, trainLoss: quiet.trainLoss });
});

let quietNative: Trained;

test.serial('a run of native goes on with cuda, and one of cuda with native', async (t) => {
  quietNative = await train('--run-dir native --backend native');
  for (const [first, then] of [
    ['native', 'cuda'],
    ['cuda', 'native'],
  ]) {
    await train(`--run-dir ${first}-${then} --backend ${first} --until-step 2`);
    const change = `--set backend=${then} --allow backend`;
    const { trainLoss, validationLoss } = await sandbox.json<Trained>(`resume ${first}-${then} ${change}`);
    for (const [loss, expected] of [
      [trainLoss, quietNative.trainLoss],
      [validationLoss, quietNative.validationLoss],
    ] as const)
      t.true(Math.abs(loss / expected - 1) < 5e-3, `${first}, then ${then}: ${loss}, and ${expected}`);
  }
});

test.serial('a run of native goes on with cuda in single precision, and back', async (t) => {
  await train('--run-dir both --backend native --until-step 1');
  const change = (keys: string) => `--set ${keys} --allow backend --allow precision`;
  await sandbox.json(`resume both ${change('backend=cuda precision=f32')} --until-step 3`);
  const { trainLoss, validationLoss } = await sandbox.json<Trained>(
    `resume both ${change('backend=native')}`,
  );
  t.true(Math.abs(trainLoss / quietNative.trainLoss - 1) < 1e-6, `${trainLoss}`);
  t.true(Math.abs(validationLoss / quietNative.validationLoss - 1) < 1e-6, `${validationLoss}`);
});

const withoutGpu = 'absence' in cudaDriver() ? test.serial : test.serial.skip;

withoutGpu('without a GPU, and without the emulator, nothing begins', async (t) => {
  const { code, stderr } = await sandbox.start('train cuda.yaml --run-dir none', { SLUICE_CUDA: '' }).ended;
  t.is(code, 1);
  t.regex(stderr, /SLUICE_E_BACKEND_MISSING.*no NVIDIA driver.*SLUICE_CUDA=emulated/);
});

test.serial('replicas write samples, though some workers have none to write', async (t) => {
  const lines = [
    'extends: cuda.yaml',
    'parallel: { lanes: 4, synchronize: { replicas: 2, everySteps: 1 } }',
    'batch: { sequences: 4 }',
    'training: { steps: 1 }',
    'evaluation: { everySteps: 1 }',
    'observe: { samples: { everySteps: 1, prompts: [the], maxTokens: 2 } }',
  ];
  sandbox.write('apart.yaml', lines.join('\n'));
  await sandbox.json('train apart.yaml --run-dir apart --workers 4');
  const samples = readFileSync(join(sandbox.path, 'apart/samples.jsonl'), 'utf8');
  t.is(samples.trim().split('\n').length, 1);
});
