/** The same model trained on every backend that this machine has. */

import { BACKENDS, type BackendName, selectBackend } from '@sluice/engine';
import { RunConfig } from '@sluice/train';
import test from 'ava';
import type { TokenSource } from '../../packages/train/src/batches.ts';
import { soloWorkers, topology } from '../../packages/train/src/topology.ts';
import { Trainer } from '../../packages/train/src/trainer.ts';

const model = {
  vocabularySize: 40,
  hiddenSize: 24,
  numLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 8,
};
const shapes = {
  dense: { ...model, intermediateSize: 40 },
  'mixture of experts': { ...model, experts: { count: 4, topK: 2, intermediateSize: 16 } },
};

const tokens: TokenSource = {
  numSequences: 1000,
  sequenceLength: 12,
  read(sample, target) {
    for (let i = 0; i < target.length; i++) target[i] = (sample * 7 + i * i) % 40;
  },
};

async function train(backend: string, shape: object) {
  await selectBackend(backend);
  const config = RunConfig.parse({
    model: shape,
    data: { recipe: 'none', sequenceLength: 12 },
    parallel: { lanes: 2 },
    batch: { sequences: 4, grainSequences: 2 },
    training: { steps: 100 },
    optimizer: { learningRate: 0.01 },
  });
  const trainer = new Trainer(config, topology(soloWorkers(), 1), { train: tokens, validation: tokens });
  trainer.initialize();
  const steps = Array.from({ length: 6 }, (_, i) => trainer.trainStep({ step: i + 1, learningRate: 0.01 }));
  return { steps, validation: trainer.evaluate(8).loss };
}

const OTHERS: readonly BackendName[] = ['cpu', 'tensorflow', 'wasm'];

for (const backend of OTHERS) {
  const absence = BACKENDS[backend].absence();
  for (const [name, shape] of Object.entries(shapes)) {
    const title = `${backend} takes the steps of native, to rounding: ${name}`;
    if (absence !== undefined) {
      test.skip(`${title} (skipped: ${absence})`, () => {});
      continue;
    }
    test.serial(title, async (t) => {
      const native = await train('native', shape);
      const other = await train(backend, shape);
      other.steps.forEach((step, i) => {
        const expected = native.steps[i]!;
        t.true(step.applied);
        t.true(Math.abs(step.loss - expected.loss) < 5e-5 * expected.loss, `${step.loss} ${expected.loss}`);
        t.true(Math.abs(step.gradientNorm - expected.gradientNorm) < 2e-3 * expected.gradientNorm);
      });
      t.true(Math.abs(other.validation - native.validation) < 5e-5 * native.validation);
    });
  }
}
