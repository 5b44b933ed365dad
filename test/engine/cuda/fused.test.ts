/** Fused operations, and a decoder of them, on `cuda` in bf16: on the emulator, which watches every access, against `native`. */

import { SluiceError } from '@sluice/core';
import { computeGradients, poolStatistics, selectBackend } from '@sluice/engine';
import { KeyValueCache } from '@sluice/model';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { batch, lossAndGradients, passOn, tinyDecoder, tinyModel } from '../../model/support.ts';
import { layoutOf } from '../support/attention.ts';
import { emulator } from '../support/cuda.ts';
import { sameBits } from '../support/differential.ts';
import {
  attentionCase,
  FUSED_CASES,
  type FusedCase,
  feedForwardCase,
  headsCase,
  largestDifference,
  largestDifferences,
  passDifferences,
  runCase,
} from '../support/fusedCases.ts';

/** Two roundings to bf16, of what is on the way and of what comes out; where there are more of them, they meet by chance. */
const BOUND = 2 ** -7;

test.before(async () => {
  process.env.SLUICE_CUDA = 'emulated';
  await selectBackend('native');
  await selectBackend('cuda');
});

test.after(() => emulator.set({}));

for (const [name, each] of Object.entries(FUSED_CASES)) {
  test.serial(`${name}: results and gradients are those of native, to the bounds of bf16`, (t) => {
    const expected = runCase('native', each);
    const differences = largestDifferences(runCase('cuda', each), expected);
    t.true(Math.max(...Object.values(differences)) < BOUND, JSON.stringify(differences));
  });
}

test.serial('no bit depends on the order of blocks and threads', (t) => {
  const cases = Object.entries(FUSED_CASES);
  const forward = cases.map(([, each]) => runCase('cuda', each));
  for (const order of ['backward', 'shuffled'] as const) {
    emulator.set({ order });
    for (const [i, [name, each]] of cases.entries()) {
      t.true(sameBits(runCase('cuda', each), forward[i]!), `${order}: ${name}`);
    }
  }
  emulator.set({});
});

test.serial('what kernels cannot do is refused, and the refusal names it', (t) => {
  const refusal = (each: FusedCase) =>
    t.throws(() => runCase('cuda', each), { instanceOf: SluiceError, code: 'SLUICE_E_CUDA_KERNEL' })!.message;
  t.regex(refusal(feedForwardCase(12)), /feed-forward: the number of channels, 12, is no multiple of 8/);
  t.regex(refusal(attentionCase(layoutOf([1, 4, 1, 1, 36], 'none'))), /36 channels.*multiples of 8/);
  t.regex(refusal(headsCase(layoutOf([1, 4, 1, 1, 6], 'none'), { q: true, k: true })), /6 channels/);
});

const SIZES = { hiddenSize: 32, headDim: 32, intermediateSize: 24, numLayers: 2 };
const DENSE = {
  'tied embeddings': tinyModel({ ...SIZES, tieWordEmbeddings: true }),
  'a head of its own': tinyModel({ ...SIZES, tieWordEmbeddings: false }),
  // Heads of 40 channels, and a parameter in plain operations.
  'a learned sink': tinyModel({ ...SIZES, controls: [{ kind: 'attention-sink' }] }),
  'capped scores': tinyModel({ ...SIZES, controls: [{ kind: 'softcap', attention: 1.5 }] }),
};

for (const [name, model] of Object.entries(DENSE)) {
  test.serial(`a dense decoder with ${name} has the loss, logits and gradients of native, to bf16`, (t) => {
    const expected = passOn('native', model);
    const pass = passOn('cuda', model);
    const differences = passDifferences(pass, expected);
    t.true(Math.abs(pass.loss - expected.loss) < BOUND * expected.loss);
    // The score of a sink goes through queries, and its gradient through theirs: two roundings more.
    const roundings = name === 'a learned sink' ? 8 : 6;
    t.true(Math.max(...Object.values(differences)) < roundings * BOUND, JSON.stringify(differences));
  });
}

test.serial('a decoder that keeps keys and values gives the logits of the whole text, to bf16', (t) => {
  tf.setBackend('cuda');
  const mixer = { kind: 'gated-delta-net', keyHeads: 1, valueHeads: 2, keyDim: 8, valueDim: 16 };
  const [windowed, mixed] = [
    tinyModel({ ...SIZES, window: 2 }),
    tinyModel({ ...SIZES, gate: undefined, mixer }),
  ];
  for (const model of [DENSE['a learned sink'], DENSE['capped scores'], windowed, mixed]) {
    const { decoder } = tinyDecoder(model);
    const { inputs: few } = batch();
    // Of a delta rule more than a chunk at once, and then token after token.
    const inputs = model === mixed ? Int32Array.from({ length: 70 }, (_, i) => few[i % few.length]!) : few;
    const whole = tf.tidy(() => decoder.logits({ inputs, sequences: 1 }).dataSync<'float32'>().slice());
    const cache = new KeyValueCache(model, inputs.length);
    const cuts = model === mixed ? [0, 2, 68, 69, 70] : [0, 3, 4, 5, 8, inputs.length];
    const pieces = cuts.slice(1).map((end, i) => decoder.followingLogits(inputs.slice(cuts[i], end), cache));
    const difference = largestDifference(Float32Array.from(pieces.flatMap((piece) => [...piece])), whole);
    // In chunks a delta rule rounds otherwise than token after token.
    t.true(difference < (model === mixed ? 4 : 3) * BOUND, `${difference}`);
  }
});

test.serial(
  'a decoder’s gradients have the same bits in any order of threads, and leave no memory behind',
  (t) => {
    tf.setBackend('cuda');
    const tiny = tinyDecoder(DENSE['tied embeddings']);
    const forward = lossAndGradients(tiny);
    const { usedBytes } = poolStatistics();
    const tensors = tf.memory().numTensors;
    const loss = computeGradients(() => tiny.decoder.loss(batch()));
    t.is(loss, forward.loss);
    t.deepEqual(
      { usedBytes: poolStatistics().usedBytes, tensors: tf.memory().numTensors },
      { usedBytes, tensors },
    );
    emulator.set({ order: 'shuffled', seed: 3 });
    t.deepEqual(lossAndGradients(tiny), forward);
    emulator.set({});
  },
);
