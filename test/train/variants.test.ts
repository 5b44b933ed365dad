import { hostArray, setThreads } from '@sluice/engine';
import test from 'ava';
import { counting, tinyRun, tinyTrainer } from './support/tinyTrainer.ts';

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
      { kind: 'softcap', attention: 50, logits: 30 },
    ],
  },
  'a sigmoid router, balanced by a bias': {
    experts: {
      ...{ count: 4, topK: 2, intermediateSize: 12, router: 'sigmoid', scalingFactor: 2 },
      ...{ balanceCoefficient: 0, balanceBias: {} },
    },
  },
  'layers of different kinds': {
    ...{ intermediateSize: 12, zeroCentredNorms: 'all' },
    layers: {
      kinds: {
        dense: { feedForward: 'dense', numAttentionHeads: 2 },
        unplaced: { positions: 'none' },
      },
      pattern: ['dense', 'unplaced'],
    },
  },
  'a hybrid of mixers and a window': {
    numLayers: 3,
    layers: {
      kinds: {
        linear: { mixer: { kind: 'gated-delta-net', keyHeads: 2, valueHeads: 4, keyDim: 8, valueDim: 8 } },
        conv: { mixer: { kind: 'short-convolution', taps: 3 } },
        near: { window: 3 },
      },
      pattern: ['linear', 'conv', 'near'],
    },
  },
};

async function train(variant: object, threads: number, steps: number) {
  setThreads(threads);
  const config = tinyRun({ model: { numAttentionHeads: 4, numKeyValueHeads: 2, ...variant } });
  const trainer = await tinyTrainer(config, { source: counting(1) });
  const initial = trainer.spaces.map(({ space }) => hostArray(space.memories[0]!.values).slice());
  const losses: number[] = [];
  for (let step = 1; step <= steps; step++)
    losses.push((await trainer.trainStep({ step, learningRate: 0.01 })).loss);
  return {
    trainer,
    initial,
    losses,
    weights: trainer.spaces.map(({ space }) => hostArray(space.memories[0]!.values).slice()),
  };
}

for (const [name, variant] of Object.entries(VARIANTS)) {
  test.serial(
    `${name}: training lowers the loss, moves every parameter, and gives the same bits on 1 and 2 threads`,
    async (t) => {
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
    },
  );
}
