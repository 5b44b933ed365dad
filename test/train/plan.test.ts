import { nativeBackend, selectBackend, setThreads } from '@sluice/engine';
import { planMemory, planRun, planTraffic, RunConfig } from '@sluice/train';
import test from 'ava';
import { StagedSave } from '../../packages/train/src/stagedSave.ts';
import { topology } from '../../packages/train/src/topology.ts';
import { Trainer } from '../../packages/train/src/trainer.ts';
import { trainerPieces } from '../../packages/train/src/trainerState.ts';
import { soloWorkers } from '../../packages/train/src/workers.ts';
import { testDevice } from './support/device.ts';

function configOf(
  model: object,
  more: { sequence?: number; grain?: number; parallel?: object; optimizer?: object } = {},
): RunConfig {
  const { sequence = 128, grain = 2, parallel = {}, optimizer = {} } = more;
  return RunConfig.parse({
    model: {
      vocabularySize: 512,
      hiddenSize: 64,
      numLayers: 3,
      numAttentionHeads: 4,
      numKeyValueHeads: 2,
      headDim: 16,
      ...('experts' in model ? {} : { intermediateSize: 176 }),
      ...model,
    },
    data: { recipe: 'none', sequenceLength: sequence },
    parallel: { lanes: 4, ...parallel },
    batch: { sequences: 4 * grain, grainSequences: grain },
    training: { steps: 10 },
    optimizer: { learningRate: 1e-3, ...optimizer },
  });
}

/** Bytes of shared memory that `body` makes. */
async function sharedBytes(body: () => Promise<void>): Promise<number> {
  const Original = globalThis.SharedArrayBuffer;
  let bytes = 0;
  globalThis.SharedArrayBuffer = class extends Original {
    constructor(byteLength?: number) {
      super(byteLength);
      bytes += byteLength ?? 0;
    }
  } as SharedArrayBufferConstructor;
  try {
    await body();
  } finally {
    globalThis.SharedArrayBuffer = Original;
  }
  return bytes;
}

/** The most that the pool lends while `body` runs, beyond what it had lent before. */
async function poolPeak(body: () => Promise<unknown>): Promise<number> {
  const { pool } = nativeBackend();
  const before = pool.statistics().usedBytes;
  const take = pool.take.bind(pool);
  let peak = 0;
  pool.take = (byteLength) => {
    const buffer = take(byteLength);
    peak = Math.max(peak, pool.statistics().usedBytes - before);
    return buffer;
  };
  try {
    await body();
  } finally {
    Reflect.deleteProperty(pool, 'take');
  }
  return peak;
}

/** Of the buffers that the moments of pieces lie in. */
function momentBytes(pieces: Trainer['spaces'][number]['optimizer']['pieces']): number {
  const arrays = pieces.flatMap(({ moments }) => Object.values(moments) as Float32Array[]);
  const buffers = new Set(arrays.map(({ buffer }) => buffer));
  return [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** What a worker alone takes in one step. */
async function measure(config: RunConfig): Promise<Record<'flat' | 'activations' | 'staging', number>> {
  const { sequenceLength } = config.data;
  const tokens = {
    numSequences: 64,
    sequenceLength,
    read(sample: number, target: Int32Array) {
      for (let t = 0; t < target.length; t++) target[t] = (sample * 31 + t * t) % 512;
    },
  };
  let moments = 0;
  let activations = 0;
  let staging = 0;
  const shared = await sharedBytes(async () => {
    const trainer = new Trainer(config, topology(soloWorkers(), 1), { train: tokens, validation: tokens });
    trainer.initialize();
    activations = await poolPeak(() => trainer.trainStep({ step: 1, learningRate: 1e-3 }));
    for (const { optimizer } of trainer.spaces) moments += momentBytes(optimizer.pieces);
    staging = await sharedBytes(async () => new StagedSave().stage(trainerPieces(trainer)));
  });
  return { flat: shared - staging + moments, activations, staging };
}

const KIMI = { kind: 'kimi-delta-attention', heads: 4, keyDim: 16, valueDim: 16 };

const LATENT = {
  ...{ numKeyValueHeads: 4, headDim: 24, qkNorm: false, gates: [], positions: 'none' },
  keyValueLatent: { rank: 16, sharedKeyDim: 8, valueDim: 16 },
};

const DELTA_NET = { kind: 'gated-delta-net', keyHeads: 2, valueHeads: 4, keyDim: 16, valueDim: 16 };

const SHAPES: Readonly<Record<string, Parameters<typeof configOf>>> = {
  dense: [{}],
  'dense, deep and narrow': [{ numLayers: 8, hiddenSize: 32, gate: { granularity: 'headwise' } }],
  'long grains': [{ gates: [] }, { sequence: 256, grain: 4 }],
  experts: [{ experts: { count: 8, topK: 2, intermediateSize: 48 } }],
  'experts with Muon': [
    { experts: { count: 8, topK: 2, intermediateSize: 48 } },
    { optimizer: { kind: 'muon' } },
  ],
  'a shared expert': [{ experts: { count: 8, topK: 2, intermediateSize: 48, sharedIntermediateSize: 64 } }],
  'gates in plain operations': [
    {
      gates: [
        {},
        { position: 'value' },
        { position: 'output', activation: 'silu' },
        { sharing: 'head-shared' },
      ],
    },
  ],
  'controls before the gate': [
    { controls: [{ kind: 'sdpa-norm' }, { kind: 'sandwich-norm' }, { kind: 'clip-outputs', limit: 9 }] },
  ],
  'switched heads': [{ gates: [], controls: [{ kind: 'switch-head', count: 4, topK: 2 }] }],
  'a learned sink': [{ controls: [{ kind: 'attention-sink' }] }],
  'capped scores': [{ controls: [{ kind: 'softcap', attention: 50 }] }],
  'capped scores of long sequences': [
    { gates: [], controls: [{ kind: 'softcap', attention: 50 }] },
    { sequence: 512, grain: 1 },
  ],
  'capped logits': [{ gates: [], controls: [{ kind: 'softcap', logits: 30 }] }],
  'Gated DeltaNet': [{ mixer: DELTA_NET }],
  'Kimi delta attention': [{ mixer: KIMI }],
  'keys and values made of a latent': [LATENT],
  'Gated DeltaNet among attention in a window': [
    {
      layers: { kinds: { linear: { mixer: DELTA_NET }, full: { window: 50 } }, pattern: ['linear', 'full'] },
    },
  ],
  'short convolutions among attention': [
    {
      layers: {
        kinds: { conv: { mixer: { kind: 'short-convolution' } }, full: {} },
        pattern: ['conv', 'full'],
      },
    },
  ],
  'norms behind blocks': [{ normPlacement: 'after' }],
  'norms of all heads together': [{ qkNorm: 'all-heads' }],
  'norms of all heads together, no gate': [{ gates: [], qkNorm: 'all-heads' }],
  'layers of different kinds, with a gated shared expert': [
    {
      ...{ intermediateSize: 176, embeddingScaling: 'norm', logitScale: 0.5 },
      experts: { count: 8, topK: 2, intermediateSize: 48, sharedIntermediateSize: 64, sharedGate: true },
      layers: {
        kinds: {
          dense: { feedForward: 'dense', swigluLimit: 2 },
          wide: { numAttentionHeads: 8, rotaryDim: 8 },
        },
        pattern: ['wide'],
        first: ['dense'],
      },
    },
  ],
  // An elementwise one is held against a device: here TensorFlow.js's own operation takes no memory of the pool.
  'a softplus gate': [{ gate: { granularity: 'headwise', activation: 'softplus' } }],
  'softmax off by one, SiLU': [
    { gates: [], controls: [{ kind: 'attention-sink', score: 'zero' }, { kind: 'sdpa-silu' }] },
  ],
};

for (const [name, shape] of Object.entries(SHAPES)) {
  test.serial(`${name}: the planned memory is the measured one to 5 % in each part`, async (t) => {
    await selectBackend('native');
    setThreads(1);
    const config = configOf(...shape);
    const measured = await measure(config);
    const { parameters, gradients, optimizer, activations, staging, scratch, total } = planMemory(config);
    const isNear = (planned: number, real: number) => Math.abs(planned / real - 1) < 0.05;
    t.true(isNear(activations, measured.activations), `${activations} planned, ${measured.activations}`);
    const flat = parameters + gradients + optimizer;
    t.true(isNear(flat, measured.flat), `${flat} planned, ${measured.flat}`);
    t.true(isNear(staging, measured.staging), `${staging} planned, ${measured.staging}`);
    t.true(isNear(total - scratch, measured.activations + measured.flat + measured.staging));
  });
}

test('threads of delta rules work in memory of their own, which grows with the sequence', (t) => {
  const scratch = (mixer: object | undefined, sequence: number, threads: number) =>
    planMemory(configOf({ mixer, ...(mixer && { gates: [] }) }, { sequence, parallel: { threads } })).scratch;
  t.is(scratch(undefined, 4096, 2), 0);
  for (const mixer of [DELTA_NET, KIMI]) {
    t.is(scratch(mixer, 4096, 2), 2 * scratch(mixer, 4096, 1));
    t.true(scratch(mixer, 4096, 1) > 2 * scratch(mixer, 1024, 1));
  }
});

const experts = { experts: { count: 8, topK: 2, intermediateSize: 48 } };
const DEVICE = testDevice(1);

test('a checkpoint that training waits for needs no memory; states to go back to need two', (t) => {
  const [beside, waiting, back] = [{}, { asynchronous: false }, {}].map((checkpoint, i) =>
    planMemory({
      ...configOf({}),
      checkpoint: { ...configOf({}).checkpoint, ...checkpoint },
      spikes: { ...configOf({}).spikes, policy: i === 2 ? 'rollback' : 'report' },
    }),
  );
  t.is(beside!.staging, beside!.parameters + beside!.optimizer);
  t.is(waiting!.staging, 0);
  t.is(beside!.snapshots, 0);
  t.is(back!.snapshots, 2 * back!.staging);
});

test('workers share moments and experts, not activations', (t) => {
  const alone = planMemory(configOf(experts));
  const shared = planMemory(configOf(experts, { parallel: { workers: 4, expertParallel: 4 } }));
  const replicated = planMemory(configOf(experts, { parallel: { workers: 4, expertParallel: 1 } }));
  const expertBytes = 4 * 3 * 8 * 3 * 64 * 48;
  t.is(alone.parameters - shared.parameters, (3 / 4) * expertBytes);
  t.is(replicated.parameters, alone.parameters);
  t.true(Math.abs(shared.optimizer / alone.optimizer - 0.25) < 0.01);
  t.is(replicated.optimizer, alone.optimizer / 4);
  t.is(replicated.activations, alone.activations);
  t.true(shared.activations >= alone.activations);
  t.is(alone.expertExchange, 0);
});

test('one worker sends nothing; two send half of the parameters to be summed and half of the new ones', (t) => {
  t.is(planTraffic(configOf({})).total, 0);
  const { reduceScatter, allGather, allToAll } = planTraffic(configOf({}, { parallel: { workers: 2 } }));
  const { parameters } = planMemory(configOf({}));
  t.is(reduceScatter, parameters / 2);
  const rounded = planTraffic(configOf({}, { parallel: { workers: 2, gradients: 'bfloat16' } }));
  t.deepEqual([rounded.reduceScatter, rounded.allGather], [reduceScatter / 2, allGather]);
  t.is(allGather, parameters / 2);
  t.is(allToAll, 0);
});

test('rows to experts: each token to each of its experts and back, in both passes', (t) => {
  const config = configOf(experts, { parallel: { workers: 2, expertParallel: 2 } });
  const { allToAll } = planTraffic(config);
  const tokens = (8 * 128) / 2;
  t.is(allToAll, 3 * 4 * tokens * 2 * 64 * 4 * (1 / 2));
  // As they are stored.
  t.is(planTraffic({ ...config, backend: 'cuda' }).allToAll, allToAll / 2);
});

test('more workers take less time a step and are used less well', (t) => {
  const plans = [1, 2, 4].map((workers) => planRun(configOf(experts, { parallel: { workers } }), DEVICE));
  for (const [i, plan] of plans.entries()) {
    t.true(plan.utilization <= DEVICE.efficiency);
    if (i === 0) continue;
    t.true(plan.seconds.compute < plans[i - 1]!.seconds.compute);
    t.true(plan.utilization < plans[i - 1]!.utilization);
  }
  t.is(plans[0]!.seconds.communicate, 0);
});
