import { selectBackend, setThreads } from '@sluice/engine';
import { RunConfig } from '@sluice/train';
import test from 'ava';
import type { TokenSource } from '../../packages/train/src/batches.ts';
import { soloWorkers, topology } from '../../packages/train/src/topology.ts';
import { Trainer } from '../../packages/train/src/trainer.ts';

const VARIANTS: Readonly<Record<string, object>> = {
  'gates at every position': {
    gates: [
      {},
      { position: 'value', sharing: 'head-shared', activation: 'silu' },
      { position: 'key', activation: 'ns-sigmoid' },
      { position: 'query', input: 'input-independent' },
      { position: 'output', form: 'additive', activation: 'identity', initialLogit: 0 },
    ],
  },
  'all controls': {
    controls: [
      { kind: 'sdpa-norm' },
      { kind: 'switch-head', projections: 'key-value', count: 4, topK: 2 },
      { kind: 'attention-sink' },
      { kind: 'sandwich-norm' },
      { kind: 'clip-outputs', limit: 50 },
    ],
  },
};

const words: TokenSource = {
  numSequences: 1000,
  sequenceLength: 8,
  read(sample, target) {
    for (let t = 0; t < target.length; t++) target[t] = (sample * 5 + t) % 24;
  },
};

function configOf(variant: object): RunConfig {
  return RunConfig.parse({
    model: {
      vocabularySize: 24,
      hiddenSize: 16,
      numLayers: 2,
      numAttentionHeads: 4,
      numKeyValueHeads: 2,
      headDim: 8,
      experts: { count: 4, topK: 2, intermediateSize: 12 },
      ...variant,
    },
    data: { recipe: 'none', sequenceLength: 8 },
    parallel: { lanes: 2 },
    batch: { sequences: 4, grainSequences: 1 },
    training: { steps: 100 },
    optimizer: { learningRate: 0.01 },
  });
}

async function train(variant: object, threads: number, steps: number) {
  setThreads(threads);
  const trainer = new Trainer(configOf(variant), topology(soloWorkers(), 1), {
    train: words,
    validation: words,
  });
  trainer.initialize();
  const initial = trainer.spaces.map(({ space }) => space.values.slice());
  const losses: number[] = [];
  for (let step = 1; step <= steps; step++)
    losses.push((await trainer.trainStep({ step, learningRate: 0.01 })).loss);
  return { trainer, initial, losses, weights: trainer.spaces.map(({ space }) => space.values.slice()) };
}

for (const [name, variant] of Object.entries(VARIANTS)) {
  test(`${name}: training lowers the loss, moves every parameter, and gives the same bits on 1 and 2 threads`, async (t) => {
    await selectBackend('native');
    const one = await train(variant, 1, 12);
    t.true(one.losses.at(-1)! < one.losses[0]! - 0.3, `${one.losses}`);
    one.trainer.spaces.forEach(({ space }, index) => {
      for (const { spec, offset } of space.parameters) {
        const before = one.initial[index]!.subarray(offset, offset + spec.size);
        const after = one.weights[index]!.subarray(offset, offset + spec.size);
        t.true(
          after.some((value, i) => value !== before[i]),
          spec.name,
        );
      }
    });
    t.deepEqual((await train(variant, 2, 2)).weights, (await train(variant, 1, 2)).weights);
  });
}
