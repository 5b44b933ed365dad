/** Whole trainings of small models, of sizes that fill no vector: what all operations give together, and the TypeScript. */

import { hostArray, selectBackend } from '@sluice/engine';
import { RunConfig } from '@sluice/train';
import type { TokenSource } from '../../packages/train/src/tokenSource.ts';
import { topology } from '../../packages/train/src/topology.ts';
import { Trainer } from '../../packages/train/src/trainer.ts';
import { soloWorkers } from '../../packages/train/src/workers.ts';

const STEPS = 8;
const VOCABULARY = 300;

/** Pseudo-random text with something to learn: every token depends on the one before. */
const source = {
  numSequences: 1000,
  sequenceLength: 72,
  read(sample: number, target: Int32Array) {
    let state = sample + 1;
    for (let t = 0; t < target.length; t++) {
      state = (Math.imul(state % 97, 2654435761) + t) >>> 0;
      target[t] = state % VOCABULARY;
    }
  },
};

/** The same text in documents of lengths that are no multiple of anything, which are kept apart. */
const separate = {
  ...source,
  documentMarks: { begin: undefined, end: 0 },
  read(sample: number, target: Int32Array) {
    source.read(sample, target);
    for (let t = (sample * 7) % 29; t < target.length; t += 1 + ((t * 5 + sample) % 31)) target[t] = 0;
  },
};

const MODELS = {
  dense: { gate: { granularity: 'elementwise' }, intermediateSize: 76, tieWordEmbeddings: true },
  experts: {
    gate: { granularity: 'headwise' },
    experts: { count: 6, topK: 2, intermediateSize: 44 },
  },
  hybrid: {
    numLayers: 3,
    intermediateSize: 76,
    zeroCentredNorms: 'all',
    layers: {
      kinds: {
        linear: { mixer: { kind: 'gated-delta-net', keyHeads: 2, valueHeads: 6, keyDim: 20, valueDim: 12 } },
        conv: { mixer: { kind: 'short-convolution', taps: 5 } },
        near: { window: 21 },
      },
      pattern: ['linear', 'conv', 'near'],
    },
  },
};

function configOf(model: object, optimizer: object): RunConfig {
  return RunConfig.parse({
    model: {
      vocabularySize: VOCABULARY,
      hiddenSize: 56,
      numLayers: 2,
      numAttentionHeads: 4,
      numKeyValueHeads: 2,
      headDim: 20,
      ...model,
    },
    data: { recipe: 'none', sequenceLength: source.sequenceLength },
    parallel: { lanes: 2 },
    batch: { sequences: 4, grainSequences: 2 },
    training: { steps: STEPS },
    optimizer: { learningRate: 0.01, ...optimizer },
    schedule: { kind: 'cosine', warmupSteps: 2 },
  });
}

/** @returns the loss of each step, and the weights and moments after the last */
async function train(model: object, optimizer = {}, text: TokenSource = source): Promise<ArrayBufferView[]> {
  await selectBackend('native');
  const config = configOf(model, optimizer);
  const trainer = new Trainer(config, topology(soloWorkers(), 1), { train: text, validation: text });
  trainer.initialize();
  const losses: number[] = [];
  for (let step = 1; step <= STEPS; step++) {
    losses.push((await trainer.trainStep({ step, learningRate: 0.01 })).loss);
  }
  losses.push((await trainer.evaluate(8)).loss);
  return [
    Float64Array.from(losses),
    ...trainer.spaces.map(({ space }) => hostArray(space.memories[0]!.values)),
  ];
}

export const TRAININGS: Readonly<Record<string, () => Promise<ArrayBufferView[]>>> = {
  'training of a dense model': () => train(MODELS.dense),
  'training of a mixture of experts': () => train(MODELS.experts),
  'training of a hybrid of mixers': () => train(MODELS.hybrid),
  'training of a hybrid of mixers on separate documents': () => train(MODELS.hybrid, {}, separate),
  'training with Muon': () => train(MODELS.experts, { kind: 'muon' }),
  'training of a dense model on separate documents': () => train(MODELS.dense, {}, separate),
  'training of a mixture of experts on separate documents': () => train(MODELS.experts, {}, separate),
};
