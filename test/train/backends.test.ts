/** The same model trained on every backend that this machine has. */

import { selectBackend } from '@sluice/engine';
import { RunConfig, type StepResult } from '@sluice/train';
import test, { type ExecutionContext } from 'ava';
import type { TokenSource } from '../../packages/train/src/tokenSource.ts';
import { topology } from '../../packages/train/src/topology.ts';
import { Trainer } from '../../packages/train/src/trainer.ts';
import { soloWorkers } from '../../packages/train/src/workers.ts';
import { AWAITED, registerAwaitedBackend } from '../engine/support/awaitedBackend.ts';

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
  'mixture of experts': {
    ...model,
    experts: {
      count: 4,
      topK: 2,
      intermediateSize: 16,
      sharedIntermediateSize: 8,
      balanceCoefficient: 0.01,
      zCoefficient: 0.001,
    },
  },
  'a hybrid of mixers and a window': {
    ...model,
    ...{ numLayers: 3, intermediateSize: 40 },
    layers: {
      kinds: {
        linear: { mixer: { kind: 'gated-delta-net', keyHeads: 2, valueHeads: 4, keyDim: 8, valueDim: 8 } },
        conv: { mixer: { kind: 'short-convolution', taps: 3 } },
        near: { window: 4 },
      },
      pattern: ['linear', 'conv', 'near'],
    },
  },
  'switched heads': {
    ...model,
    intermediateSize: 40,
    controls: [{ kind: 'switch-head', count: 3, topK: 2 }],
  },
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
  const steps: StepResult[] = [];
  for (let step = 1; step <= 6; step++) steps.push(await trainer.trainStep({ step, learningRate: 0.01 }));
  const { loss: validation } = await trainer.evaluate(8);
  const diagnostics = await trainer.diagnose({ sequences: 4 });
  return { steps, validation, probe: await trainer.probeLoss(), diagnostics };
}

/** Whether every number in `actual` is that of `expected`, to rounding, by which a score may fall into another bin. */
function near(t: ExecutionContext, actual: unknown, expected: unknown, path: string): void {
  if (typeof expected === 'number') {
    t.true(
      Math.abs((actual as number) - expected) <= 1e-3 * (Math.abs(expected) + 2),
      `${path}: ${actual} ${expected}`,
    );
  } else if (typeof expected === 'object' && expected !== null) {
    for (const [key, value] of Object.entries(expected))
      near(t, (actual as Record<string, unknown>)[key], value, `${path}.${key}`);
  } else t.is(actual, expected, path);
}

/** Why a backend does not run here; undefined where it does. */
async function absenceOf(backend: string): Promise<string | undefined> {
  return selectBackend(backend).then(
    () => undefined,
    (error: Error) => error.message,
  );
}

registerAwaitedBackend();

for (const backend of ['cpu', 'tensorflow', 'wasm', 'webgpu', AWAITED]) {
  const absence = await absenceOf(backend);
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
        near(t, step.auxiliaryLoss, expected.auxiliaryLoss, 'auxiliary loss');
        t.deepEqual(step.expertLoad, expected.expertLoad);
      });
      t.true(Math.abs(other.validation - native.validation) < 5e-5 * native.validation);
      t.true(Math.abs(other.probe - native.probe) < 5e-5 * native.probe);
      near(t, other.diagnostics, native.diagnostics, 'diagnostics');
    });
  }
}
