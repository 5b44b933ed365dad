/** Commands that take a trained model, and experiments, on the `cuda` backend, its kernels on the emulator. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cudaDriver, nativeArithmetic } from '@sluice/engine';
import type { ExperimentResults } from '@sluice/observe';
import test from 'ava';
import { relativeError } from '../support/relativeError.ts';
import { Sandbox } from './support/sandbox.ts';

process.env.SLUICE_CUDA = 'emulated';
process.env.SLUICE_CUDA_WATCH = 'off';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

test.before(async () => {
  sandbox.write(
    'experts.yaml',
    `model:
  { vocabularySize: 320, hiddenSize: 32, numLayers: 2, numAttentionHeads: 2, numKeyValueHeads: 1, headDim: 16,
    gates: [{ granularity: elementwise }], experts: { count: 4, topK: 2, intermediateSize: 16 } }
data: { recipe: recipe.yaml, sequenceLength: 32 }
parallel: { lanes: 2 }
batch: { sequences: 4, grainSequences: 2 }
training: { steps: 20 }
optimizer: { learningRate: 0.01 }
`,
  );
  sandbox.write('text.txt', 'the river opens the gate and number 7 .\n'.repeat(5));
  sandbox.write('ids.json', '[[1, 2, 3, 4]]');
  await sandbox.json('train experts.yaml --run-dir run');
});

const MEASURES = [
  'firstTokenAttention',
  'massiveActivation',
  'gateScoreMean',
  'attentionEntropy',
  'largestAttentionLogit',
  'updateRatio',
] as const;

/** What the commands measure of the run, as one list of numbers each. */
async function measure(options: string) {
  const { backend, precision, loss } = await sandbox.json(`evaluate run --text text.txt ${options}`);
  const diagnosis = await sandbox.json<Record<string, number> & { router: { entropy: number } }>(
    `diagnose run --sequences 2 --html maps.html ${options}`,
  );
  const { lengths } = await sandbox.json<{ lengths: { answerLoss: number }[] }>(
    `evaluate run --task niah --length 256 --samples 1 --depths 0.5 ${options}`,
  );
  const { documents } = await sandbox.json<{ documents: { loss: number }[] }>(
    `inspect run --step 2 --losses ${options}`,
  );
  await sandbox.json(`logits run --ids ids.json --out logits.json ${options}`);
  const { logits } = JSON.parse(readFileSync(join(sandbox.path, 'logits.json'), 'utf8'));
  return {
    computedBy: { backend, precision },
    measured: {
      losses: [loss as number, ...lengths.map(({ answerLoss }) => answerLoss)],
      diagnosis: [...MEASURES.map((name) => diagnosis[name]!), diagnosis.router.entropy],
      documents: documents.map((document) => document.loss),
      logits: logits.flat(2) as number[],
    },
  };
}

test.serial('what is measured of a trained model on cuda is near what native measures', async (t) => {
  const native = await measure('--backend native');
  t.deepEqual(native.computedBy, { backend: 'native', precision: 'f32' });
  for (const [precision, largest] of [
    ['f32', 1e-5],
    ['bf16', 2e-2],
  ] as const) {
    const { computedBy, measured } = await measure(`--backend cuda --precision ${precision}`);
    t.deepEqual(computedBy, { backend: 'cuda', precision });
    for (const [name, expected] of Object.entries(native.measured)) {
      const difference = relativeError(measured[name as keyof typeof measured], expected);
      t.true(difference < largest, `${name} in ${precision}: ${difference}`);
    }
  }
});

test.serial('generation on cuda takes native’s tokens, and the same seed draws the same text', async (t) => {
  const generate = (options: string) =>
    sandbox.json(`generate run --prompt the --max-tokens 12 ${options}`).then(({ text }) => text);
  const likeliest = await generate('--temperature 0');
  t.is(await generate('--temperature 0 --backend cuda --precision f32'), likeliest);
  const drawn = await generate('--backend cuda');
  t.is(await generate('--backend cuda'), drawn);
});

test.serial('an experiment names what computed each row, and measures each model by that', async (t) => {
  sandbox.write(
    'backends.yaml',
    `title: "Two backends"
base: experts.yaml
seeds: 1
rows:
  - { name: native, method: "native", set: [training.steps=2] }
  - { name: cuda, method: "cuda", set: [training.steps=2, backend=cuda, precision=f32] }
`,
  );
  const { ended } = sandbox.start('experiment backends.yaml --jobs 1 --threads 1');
  const { code, stdout } = await ended;
  const ofCuda = await sandbox.json(
    'logits run --ids ids.json --out logits.json --backend cuda --precision f32',
  );
  t.is(code, 0);
  t.regex(stdout, /row +arithmetic +finished/);
  t.regex(stdout, new RegExp(`cuda +${ofCuda.arithmetic} +1 of 1`));
  const path = join(sandbox.path, 'experiments', 'backends-full', 'results.json');
  const { arithmetic, runs } = JSON.parse(readFileSync(path, 'utf8')) as ExperimentResults;
  t.is(arithmetic, `${nativeArithmetic()}, ${ofCuda.arithmetic}`);
  t.deepEqual(
    runs.map((run) => run.arithmetic),
    [nativeArithmetic(), ofCuda.arithmetic],
  );
  const [native, cuda] = runs.map(({ diagnosis }) => diagnosis!.massiveActivation!);
  t.true(relativeError([cuda!], [native!]) < 1e-5);
  // What is done needs no GPU any more, and what is not does.
  const again = (seeds: number) =>
    sandbox.start(`experiment backends.yaml --jobs 1 --threads 1 --seeds ${seeds}`, { SLUICE_CUDA: '' })
      .ended;
  const unchanged = await again(1);
  t.is(unchanged.code, 0, unchanged.stderr);
  if ('absence' in cudaDriver()) t.regex((await again(2)).stderr, /SLUICE_E_BACKEND_MISSING: Row cuda of/);
});
