/** What a plan says of a GPU's memory, beside what a step takes of the emulator's; no kernel runs for that. */

import { type Precision, selectBackend } from '@sluice/engine';
import { cudaBackend } from '@sluice/engine/cuda';
import { planHostMemory, planMemory, planTraffic, RunConfig } from '@sluice/train';
import test from 'ava';
import type { TokenSource } from '../../packages/train/src/tokenSource.ts';
import { topology } from '../../packages/train/src/topology.ts';
import { Trainer } from '../../packages/train/src/trainer.ts';
import { soloWorkers } from '../../packages/train/src/workers.ts';
import { emulator } from '../engine/support/cuda.ts';
import { layoutGroup } from './support/layoutGroup.ts';
import { counting } from './support/tinyTrainer.ts';

process.env.SLUICE_CUDA = 'emulated';
process.env.SLUICE_CUDA_WATCH = 'off';

interface Sizes {
  readonly sequence?: number;
  readonly parallel?: object;
  /** Tokens of documents that are kept apart. */
  readonly documentLength?: number;
}

function configOf(
  precision: Precision,
  model: object,
  { sequence = 256, parallel = { lanes: 1 }, documentLength }: Sizes = {},
): RunConfig {
  return RunConfig.parse({
    ...{ backend: 'cuda', precision },
    model: {
      ...{ vocabularySize: 512, hiddenSize: 128, numLayers: 2 },
      ...{ numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 32 },
      ...('experts' in model ? {} : { intermediateSize: 352 }),
      ...model,
    },
    data: {
      ...{ recipe: 'none', sequenceLength: sequence },
      documents: documentLength === undefined ? 'packed' : 'separate',
    },
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

/** Of which parts go by plain operations, or are kept besides. */
const VARIANTS: Readonly<Record<string, object>> = {
  'gates in plain operations': {
    gates: [
      {},
      { position: 'value' },
      { position: 'output', activation: 'silu' },
      { sharing: 'head-shared' },
    ],
  },
  'an elementwise softplus gate': { gate: { activation: 'softplus' } },
  'controls before the gate': {
    controls: [{ kind: 'sdpa-norm' }, { kind: 'sandwich-norm' }, { kind: 'clip-outputs', limit: 9 }],
  },
  'switched heads': { gates: [], controls: [{ kind: 'switch-head', count: 4, topK: 2 }] },
  'a learned sink': { controls: [{ kind: 'attention-sink' }] },
  'softmax off by one, SiLU': {
    ...{ gates: [], controls: [{ kind: 'attention-sink', score: 'zero' }, { kind: 'sdpa-silu' }] },
  },
  'capped scores': { controls: [{ kind: 'softcap', attention: 50 }] },
  'keys and values made of a latent': {
    ...{ numKeyValueHeads: 4, headDim: 48, qkNorm: false, gates: [], positions: 'none' },
    keyValueLatent: { rank: 32, sharedKeyDim: 16, valueDim: 32 },
  },
  'short convolutions among attention in a window': {
    layers: {
      kinds: { conv: { mixer: { kind: 'short-convolution' } }, near: { window: 50 } },
      pattern: ['conv', 'near'],
    },
  },
  'Gated DeltaNet': {
    mixer: { kind: 'gated-delta-net', keyHeads: 2, valueHeads: 4, keyDim: 64, valueDim: 64 },
  },
  'Gated DeltaNet of keys too wide for chunks': {
    mixer: { kind: 'gated-delta-net', keyHeads: 2, valueHeads: 4, keyDim: 192, valueDim: 64 },
  },
  'Kimi delta attention': { mixer: { kind: 'kimi-delta-attention', heads: 4, keyDim: 32, valueDim: 32 } },
  'norms behind blocks': { normPlacement: 'after' },
  'norms of all heads together': { qkNorm: 'all-heads' },
  'layers of different kinds, with a gated shared expert': {
    ...{ intermediateSize: 352, embeddingScaling: 'norm', logitScale: 0.5 },
    experts: { count: 8, topK: 2, intermediateSize: 96, sharedIntermediateSize: 64, sharedGate: true },
    layers: {
      kinds: {
        dense: { feedForward: 'dense', swigluLimit: 2 },
        wide: { numAttentionHeads: 8, rotaryDim: 16 },
      },
      ...{ pattern: ['wide'], first: ['dense'] },
    },
  },
};

/** The same tokens, of which one in so many ends a document. */
function inDocuments(source: TokenSource, length: number): TokenSource {
  const end = 511;
  return {
    ...source,
    documentMarks: { begin: undefined, end },
    read(sample, target) {
      source.read(sample, target);
      for (let t = length - 1; t < target.length; t += length) target[t] = end;
    },
  };
}

/** Bytes that a trainer has after a step, and the most that the next one takes beside. */
async function measure(config: RunConfig, documentLength?: number) {
  const { device } = cudaBackend();
  const { arena } = device;
  const [before, hostBytes] = [arena.statistics().usedBytes, device.hostBytes];
  const counted = { ...counting(3), sequenceLength: config.data.sequenceLength };
  const source = documentLength === undefined ? counted : inDocuments(counted, documentLength);
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

const isNear = (planned: number, real: number) => planned / real > 0.995 && planned / real < 1.05;

for (const precision of ['bf16', 'f32'] as const) {
  for (const [name, [model, sizes]] of Object.entries(SHAPES)) {
    test.serial(`${name}, ${precision}: a step takes what is planned, to 5 %`, async (t) => {
      await selectBackend('cuda', precision);
      const config = configOf(precision, model, sizes);
      const measured = await measure(config);
      const { total, activations } = planMemory(config);
      t.true(isNear(activations, measured.passes), `${activations} planned, ${measured.passes}`);
      const taken = measured.flat + measured.passes;
      t.true(isNear(total, taken), `${total} planned in all, ${taken}`);
    });
  }
}

for (const precision of ['bf16', 'f32'] as const) {
  for (const [name, model] of Object.entries(VARIANTS)) {
    test.serial(`${name}, ${precision}: a pass takes what is planned, to 5 %`, async (t) => {
      await selectBackend('cuda', precision);
      const config = configOf(precision, model, { sequence: 2048 });
      const { passes } = await measure(config);
      const { activations } = planMemory(config);
      t.true(isNear(activations, passes), `${activations} planned, ${passes}`);
    });
  }
}

for (const precision of ['bf16', 'f32'] as const) {
  test.serial(
    `a delta rule over documents kept apart, ${precision}: a pass takes what is planned, to 5 %`,
    async (t) => {
      await selectBackend('cuda', precision);
      const documentLength = 293;
      const config = configOf(precision, VARIANTS['Gated DeltaNet']!, { sequence: 2048, documentLength });
      const { passes } = await measure(config, documentLength);
      const { activations } = planMemory(config);
      t.true(isNear(activations, passes), `${activations} planned, ${passes}`);
    },
  );
}

test.serial(
  'weights are planned as they are kept: of every worker in bf16, and of who owns them in f32',
  async (t) => {
    await selectBackend('cuda', 'bf16');
    const { device } = cudaBackend();
    // Of each layer: queries, gates, keys and values; output; feed-forward; norms. The embedding, the head, and the last norm.
    const matrices = 2 * (128 * (2 * 128 + 2 * 64) + 128 * 128 + 3 * 128 * 352) + 2 * 512 * 128;
    const gains = 2 * (2 * 128 + 2 * 32) + 128;
    for (const size of [1, 4]) {
      const config = configOf('bf16', {}, { parallel: { lanes: 4, workers: size } });
      const { parameters, optimizer } = planMemory(config);
      t.is(parameters, (2 + 4 / size) * matrices + 4 * gains);
      const { allGather, reduceScatter } = planTraffic(config);
      t.is(allGather, ((size - 1) / size) * (2 * matrices + 4 * gains));
      t.is(reduceScatter, ((size - 1) / size) * 4 * (matrices + gains));
      const world = layoutGroup(size - 1, size);
      const workers = { ...soloWorkers(), rank: size - 1, size, world };
      const samplers = { train: counting(3), validation: counting(3) };
      const before = device.arena.statistics().usedBytes;
      new Trainer(config, topology({ ...workers, group: () => world }, 1), samplers).initialize();
      const taken = device.arena.statistics().usedBytes - before;
      // Slices are cut between blocks.
      const planned = parameters + optimizer;
      t.true(Math.abs(planned / taken - 1) < 0.03, `${planned} planned, ${taken}`);
    }
    const inSingle = planMemory(configOf('f32', {}, { parallel: { lanes: 4, workers: 4 } }));
    t.is(inSingle.parameters, 4 * (matrices + gains));
  },
);

test('what Muon works in is the host’s', (t) => {
  const adamW = configOf('bf16', {});
  const muon = RunConfig.parse({ ...adamW, optimizer: { kind: 'muon', learningRate: 1e-3 } });
  t.is(planHostMemory(adamW)!.optimizer, undefined);
  // Two of the size of the largest matrix and three squares; and copies of its values, momentum and gradient.
  const [rows, columns] = [352, 128];
  t.is(planHostMemory(muon)!.optimizer, 4 * ((2 + 3) * rows * columns + 3 * columns ** 2));
  t.true(planMemory(muon).optimizer < planMemory(adamW).optimizer);
});

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
  // By hosts: half of a layer from the neighbour, a quarter from the counterpart, and the sums of the host between.
  const byHosts = (gradients: string) =>
    planMemory(configOf('bf16', {}, { parallel: { lanes: 4, workers: 4, gradients } }), undefined, 2)
      .gradientExchange;
  t.is(byHosts('float32'), 4 * layer * (1 / 2 + 1 / 4 + 1 / 2));
  t.is(byHosts('bfloat16'), layer * (8 * (1 / 2 + 1 / 4) + 4 / 2));
  // Of each other GPU of the host, over 32 channels: 4 MiB and the buffers of two protocols, 10 MiB in all, and 2 MiB to watch them by.
  t.deepEqual([alone!.nccl, two!.nccl, four!.nccl], [0, 32 * 12 * 2 ** 20, 3 * 32 * 12 * 2 ** 20]);
  const eightPerHost = planMemory(
    configOf('bf16', {}, { parallel: { lanes: 16, workers: 16 } }),
    undefined,
    8,
  );
  t.is(eightPerHost.nccl, 7 * 32 * 12 * 2 ** 20);
  t.deepEqual([two!.staging, two!.snapshots, two!.expertExchange], [0, 0, 0]);
  t.true(planHostMemory(configOf('bf16', {}))!.staging > 0);
  t.is(planHostMemory({ ...configOf('f32', {}), backend: 'native' }), undefined);
});
