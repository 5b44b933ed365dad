/** What a plan says of a GPU's memory, beside what a step takes of the emulator's; no kernel runs for that. */

import { type Precision, selectBackend } from '@sluice/engine';
import { cudaBackend } from '@sluice/engine/cuda';
import { planHostMemory, planMemory, RunConfig } from '@sluice/train';
import test from 'ava';
import { soloWorkers, topology } from '../../packages/train/src/topology.ts';
import { Trainer } from '../../packages/train/src/trainer.ts';
import { emulator } from '../engine/support/cuda.ts';
import { counting } from './support/tinyTrainer.ts';

process.env.SLUICE_CUDA = 'emulated';
process.env.SLUICE_CUDA_WATCH = 'off';

interface Sizes {
  readonly sequence?: number;
  readonly parallel?: object;
}

function configOf(
  precision: Precision,
  model: object,
  { sequence = 256, parallel = { lanes: 1 } }: Sizes = {},
): RunConfig {
  return RunConfig.parse({
    ...{ backend: 'cuda', precision },
    model: {
      ...{ vocabularySize: 512, hiddenSize: 128, numLayers: 2 },
      ...{ numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 32 },
      ...('experts' in model ? {} : { intermediateSize: 352 }),
      ...model,
    },
    data: { recipe: 'none', sequenceLength: sequence },
    parallel,
    batch: { sequences: 4, grainSequences: 1 },
    training: { steps: 10 },
    optimizer: { learningRate: 1e-3 },
  });
}

const SHAPES: Readonly<Record<string, readonly [object, Sizes?]>> = {
  dense: [{}],
  'a large vocabulary': [{ vocabularySize: 4096 }],
  'long grains, many layers, no gate': [{ gates: [], numLayers: 6 }, { sequence: 2048 }],
  experts: [{ experts: { count: 8, topK: 2, intermediateSize: 96 } }, { sequence: 1024 }],
  'a shared expert': [
    { experts: { count: 16, topK: 4, intermediateSize: 48, sharedIntermediateSize: 64 } },
    { sequence: 2048 },
  ],
};

/** Bytes that a trainer has after a step, and the most that the next one takes beside. */
async function measure(config: RunConfig) {
  const { device } = cudaBackend();
  const { arena } = device;
  const [before, hostBytes] = [arena.statistics().usedBytes, device.hostBytes];
  const source = { ...counting(3), sequenceLength: config.data.sequenceLength };
  const trainer = new Trainer(config, topology(soloWorkers(), 1), { train: source, validation: source });
  trainer.initialize();
  await trainer.trainStep({ step: 1, learningRate: 1e-3 });
  const flat = arena.statistics().usedBytes;
  let most = flat;
  const take = arena.take.bind(arena);
  arena.take = (bytes) => {
    const address = take(bytes);
    most = Math.max(most, arena.statistics().usedBytes);
    return address;
  };
  await trainer.trainStep({ step: 2, learningRate: 1e-3 });
  Reflect.deleteProperty(arena, 'take');
  return { flat: flat - before, passes: most - flat, onHost: device.hostBytes - hostBytes };
}

test.before(() => selectBackend('cuda'));
test.beforeEach(() => emulator.set({ runsKernels: false }));
test.after(() => emulator.set({}));

for (const precision of ['bf16', 'f32'] as const) {
  for (const [name, [model, sizes]] of Object.entries(SHAPES)) {
    test.serial(`${name}, ${precision}: a step takes what is planned, to 5 %`, async (t) => {
      await selectBackend('cuda', precision);
      const config = configOf(precision, model, sizes);
      const measured = await measure(config);
      const { total, activations } = planMemory(config);
      const isNear = (planned: number, real: number) => planned / real > 0.995 && planned / real < 1.05;
      t.true(isNear(activations, measured.passes), `${activations} planned, ${measured.passes}`);
      const taken = measured.flat + measured.passes;
      t.true(isNear(total, taken), `${total} planned in all, ${taken}`);
    });
  }
}

test.serial('partial sums are planned where they come to lie', async (t) => {
  await selectBackend('cuda', 'bf16');
  const model = SHAPES.experts![0];
  const everywhere = configOf('bf16', model, { parallel: { lanes: 4 } });
  const { gradients } = planMemory(everywhere);
  t.is(planHostMemory(everywhere)!.gradients, 0);
  for (const gradientMiB of [0, (0.7 * gradients) / 2 ** 20]) {
    const config = configOf('bf16', model, { parallel: { lanes: 4, gradientMiB } });
    const [plan, onHost] = [planMemory(config), planHostMemory(config)!.gradients];
    t.is(plan.gradients + onHost, gradients);
    t.true(onHost > 0 && plan.gradients > 0);
    t.is((await measure(config)).onHost, onHost);
    // A GPU that has just so much for them.
    const others = plan.total - plan.gradients;
    const deviceBytes = (16 / 15) * (others + gradientMiB * 2 ** 20);
    t.is(planHostMemory(everywhere, deviceBytes)!.gradients, onHost);
  }
});

test('what arrives from other workers takes memory for the largest stage; what the host has is no GPU’s', (t) => {
  const of = (parallel: object) => planMemory(configOf('bf16', {}, { parallel: { lanes: 4, ...parallel } }));
  const [alone, two, four] = [1, 2, 4].map((workers) => of({ workers }));
  t.is(alone!.gradientExchange, 0);
  const [half, rest] = [two!.gradientExchange!, four!.gradientExchange!];
  t.is(rest, (3 / 2) * half);
  t.is(of({ workers: 2, gradients: 'bfloat16' }).gradientExchange, 2 * half);
  // Of a layer: queries, gates, keys and values; output; feed-forward; norms.
  const layer = 128 * (2 * 128 + 2 * 64) + 128 * 128 + 3 * 128 * 352 + 2 * 128 + 2 * 32;
  t.is(half, (4 * layer) / 2);
  t.deepEqual([two!.staging, two!.snapshots, two!.expertExchange], [0, 0, 0]);
  t.true(planHostMemory(configOf('bf16', {}))!.staging > 0);
  t.is(planHostMemory({ ...configOf('f32', {}), backend: 'native' }), undefined);
});
