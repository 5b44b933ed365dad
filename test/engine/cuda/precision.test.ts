/** Fused operations, and decoders of them, on `cuda` in single precision: on the emulator, which watches every access, against `native`. */

import { SluiceError } from '@sluice/core';
import { arithmetic, BACKENDS, precisionOn, selectBackend } from '@sluice/engine';
import { attentionErrors, type CudaDevice, cudaBackend, LAYOUT } from '@sluice/engine/cuda';
import { KeyValueCache } from '@sluice/model';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { batch, lossAndGradients, passOn, tinyDecoder, tinyModel } from '../../model/support.ts';
import { layoutOf } from '../support/attention.ts';
import { device, emulator } from '../support/cuda.ts';
import { operand, sameBits } from '../support/differential.ts';
import {
  attentionCase,
  FUSED_CASES,
  type FusedCase,
  feedForwardCase,
  largestDifference,
  largestDifferences,
  passDifferences,
  runCase,
} from '../support/fusedCases.ts';

test.before(async () => {
  process.env.SLUICE_CUDA = 'emulated';
  await selectBackend('native');
  await selectBackend('cuda', 'f32');
});

test.after(() => emulator.set({}));

/** Those whose sums have the order of `native`, to the last bit. */
const SAME = [
  'sum',
  'sum with itself',
  'linear',
  'linear of other widths',
  'linear in single precision',
  'feed-forward',
  'feed-forward within a limit',
  'embedding',
  'rotary embedding',
  'heads of 128 channels',
  'gate of each head',
  'tokens to experts',
  'short convolution without an activation',
  'experts',
];

/** Of the largest value: sums of tens of terms in other orders, and functions of them. */
const BOUND = 4e-6;

test.serial(
  'results and gradients are those of native to single precision, of products to the last bit',
  (t) => {
    for (const [name, each] of Object.entries(FUSED_CASES)) {
      // That of one decay goes by the same kernel.
      if (name === 'delta rule with a decay of each channel') continue;
      const [actual, expected] = [runCase('cuda', each), runCase('native', each)];
      const differences = largestDifferences(actual, expected);
      t.true(Math.max(...Object.values(differences)) < BOUND, `${name}: ${JSON.stringify(differences)}`);
      t.is(SAME.includes(name), sameBits(actual, expected), name);
    }
  },
);

test.serial(
  'products have the bits of native over more than one block of the summed axis, of any widths',
  (t) => {
    const long: FusedCase = {
      operation: FUSED_CASES.linear!.operation,
      operands: { x: operand(1, [3, 1030]), weight: operand(2, [5, 1030]) },
    };
    for (const each of [long, feedForwardCase(13)]) {
      t.true(sameBits(runCase('cuda', each), runCase('native', each)));
    }
  },
);

test.serial('heads of 256 channels have the results of native', (t) => {
  const wide = attentionCase(layoutOf([1, 18, 1, 2, 256], 'elementwise'));
  const differences = largestDifferences(runCase('cuda', wide), runCase('native', wide));
  t.true(Math.max(...Object.values(differences)) < BOUND, JSON.stringify(differences));
});

test.serial('attention is as near to double precision as its sums allow', (t) => {
  const errors = (on: CudaDevice) => [
    attentionErrors(on, { ...LAYOUT, sequence: 70, window: 50 }, 3, 'f32'),
    attentionErrors(on, { ...LAYOUT, sequence: 40, headDim: 136, gate: 'headwise' }, 4, 'f32'),
    attentionErrors(on, { ...LAYOUT, sequence: 20, scoreCap: 0.2 }, 5, 'f32'),
  ];
  for (const each of errors(device)) t.true(Math.max(...Object.values(each)) < 1, JSON.stringify(each));
});

test.serial('no bit depends on the order of blocks and threads', (t) => {
  const names = ['linear', 'heads with norms', 'attention in a window', 'tokens from experts', 'experts'];
  const forward = names.map((name) => runCase('cuda', FUSED_CASES[name]!));
  emulator.set({ order: 'shuffled' });
  for (const [i, name] of names.entries()) {
    t.true(sameBits(runCase('cuda', FUSED_CASES[name]!), forward[i]!), name);
  }
  emulator.set({});
});

const SIZES = { hiddenSize: 20, headDim: 8, intermediateSize: 13, numLayers: 2 };
const MODELS = {
  'a dense decoder': tinyModel(SIZES),
  'one with experts': tinyModel({
    ...SIZES,
    intermediateSize: undefined,
    experts: { count: 5, topK: 2, intermediateSize: 9, sharedIntermediateSize: 7 },
  }),
  'one with a learned sink': tinyModel({ ...SIZES, controls: [{ kind: 'attention-sink' }] }),
};

for (const [name, model] of Object.entries(MODELS)) {
  test.serial(`${name}, of any widths, has the loss, logits and gradients of native`, (t) => {
    const expected = passOn('native', model);
    const pass = passOn('cuda', model);
    const differences = passDifferences(pass, expected);
    t.true(Math.abs(pass.loss - expected.loss) < BOUND * expected.loss);
    t.true(Math.max(...Object.values(differences)) < 5 * BOUND, JSON.stringify(differences));
    emulator.set({ order: 'shuffled', seed: 2 });
    t.deepEqual(passOn('cuda', model), pass);
    emulator.set({});
  });
}

test.serial('a decoder that keeps keys and values gives the logits of the whole text', (t) => {
  tf.setBackend('cuda');
  for (const model of [MODELS['a dense decoder'], tinyModel({ ...SIZES, window: 2 })]) {
    const { decoder } = tinyDecoder(model);
    const { inputs } = batch();
    const whole = tf.tidy(() => decoder.logits({ inputs, sequences: 1 }).dataSync<'float32'>().slice());
    const cache = new KeyValueCache(model, inputs.length);
    const pieces = [inputs.slice(0, 4), inputs.slice(4, 5), inputs.slice(5)].flatMap((piece) => [
      ...decoder.followingLogits(piece, cache),
    ]);
    t.true(largestDifference(Float32Array.from(pieces), whole) < 3 * BOUND);
  }
});

test.serial(
  'the precision is part of the arithmetic’s name, and may be changed from run to run',
  async (t) => {
    t.is(arithmetic(), 'cuda-4-f32');
    const single = lossAndGradients(tinyDecoder(tinyModel({ headDim: 32, intermediateSize: 24 })));
    await selectBackend('cuda');
    t.is(arithmetic(), 'cuda-4-emulated');
    t.is(cudaBackend().precision, 'bf16');
    const { loss } = lossAndGradients(tinyDecoder(tinyModel({ headDim: 32, intermediateSize: 24 })));
    t.not(loss, single.loss);
    t.true(Math.abs(loss - single.loss) < 2 ** -7 * loss);
    await selectBackend('cuda', 'f32');
  },
);

test('a backend that does not have a precision refuses it, and has one of its own', (t) => {
  const error = t.throws(() => precisionOn(BACKENDS.native, 'bf16'), { instanceOf: SluiceError });
  t.is(error.code, 'SLUICE_E_BACKEND_UNSUPPORTED');
  t.regex(error.message, /precision is bf16, but the backend "native" computes in f32 only/);
  t.is(precisionOn(BACKENDS.native, undefined), 'f32');
  t.is(precisionOn(BACKENDS.native, 'f32'), 'f32');
  t.is(precisionOn(BACKENDS.cuda, undefined), 'bf16');
});
