/** Tensors whose memory goes back to the pool until the backward pass computes them once more. */

import {
  attentionHeads,
  computeGradients,
  dispatchTokens,
  forgetUntilGradient,
  gatedAttention,
  linear,
  nativeBackend,
  Parameter,
  planDispatch,
  poolStatistics,
  rmsNorm,
  rotaryTable,
  selectBackend,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { layoutOf } from './support/attention.ts';
import { randomValues, sameBits } from './support/differential.ts';

const [TOKENS, CHANNELS] = [24, 16];
const LAYOUT = layoutOf([2, 12, 2, 2, 8], 'elementwise');
const ROTARY = rotaryTable(12, 8, 10_000);
const SHAPES = {
  x: [TOKENS, CHANNELS],
  norm: [CHANNELS],
  qkv: [96, CHANNELS],
  out: [CHANNELS, 32],
  route: [CHANNELS, CHANNELS],
};

test.before(() => selectBackend('native'));

/** A layer's output and gradients. @param forget what is done with tensors that the forward pass needs no more */
function runLayer(forget: typeof forgetUntilGradient) {
  const gradients: Record<string, Float32Array> = {};
  const parameters: Record<string, Parameter> = {};
  for (const [i, [name, shape]] of Object.entries(SHAPES).entries()) {
    const values = randomValues(i + 1, tf.util.sizeFromShape(shape));
    const gradient = new Float32Array(values.length);
    parameters[name] = new Parameter(name, shape, values);
    parameters[name].sink = () => ({ values: gradient, accumulate: true });
    gradients[name] = gradient;
  }
  const { x, norm, qkv, out, route } = parameters as Record<keyof typeof SHAPES, Parameter>;
  const chosen = Int32Array.from({ length: 2 * TOKENS }, (_, slot) => (slot * 7) % 3);
  const plan = planDispatch(tf.tensor2d(chosen, [TOKENS, 2], 'int32'), 3);
  let lent = 0;
  const loss = computeGradients(() => {
    const normed = rmsNorm(x.onTape() as tf.Tensor2D, norm, 1e-6);
    const { q, k, v, gate } = attentionHeads(linear(normed, qkv), null, null, ROTARY, LAYOUT);
    const attended = linear(gatedAttention(q, k, v, gate, LAYOUT), out);
    forget(q, k, v, gate);
    const routed = dispatchTokens(tf.add(attended, normed), plan);
    const y = linear(routed, route);
    forget(normed, routed);
    lent = poolStatistics().usedBytes;
    return tf.sum(tf.square(y)) as tf.Scalar;
  });
  for (const parameter of Object.values(parameters)) parameter.tensor.dispose();
  return { loss, gradients, lent };
}

test('what was forgotten comes back with the same bits, and its memory was free in between', (t) => {
  const before = poolStatistics().usedBytes;
  const kept = runLayer(() => {});
  const forgotten = runLayer(forgetUntilGradient);
  t.is(forgotten.loss, kept.loss);
  for (const name of Object.keys(SHAPES)) {
    t.true(
      kept.gradients[name]!.some((value) => value !== 0),
      name,
    );
    t.deepEqual(forgotten.gradients[name], kept.gradients[name], name);
  }
  // Of six tensors, each in a pooled buffer of at least one page.
  t.true(kept.lent - forgotten.lent >= 6 * 4096);
  t.is(poolStatistics().usedBytes, before);
});

test('who reads a forgotten tensor gets its values, also through stock kernels', (t) => {
  const weight = new Parameter('w', [CHANNELS], randomValues(1, CHANNELS));
  const x = tf.tensor2d(randomValues(2, TOKENS * CHANNELS), [TOKENS, CHANNELS]);
  const read: tf.TypedArray[] = [];
  computeGradients(() => {
    const y = rmsNorm(x, weight, 1e-6);
    const again = tf.reshape(y, [CHANNELS, TOKENS]);
    read.push(y.dataSync());
    forgetUntilGradient(y);
    read.push(tf.abs(tf.neg(again)).dataSync(), y.dataSync());
    return tf.sum(y) as tf.Scalar;
  });
  t.true(
    sameBits(
      { output: read[0] as Float32Array, gradients: {} },
      { output: read[2] as Float32Array, gradients: {} },
    ),
  );
  t.deepEqual(read[1], (read[0] as Float32Array).map(Math.abs));
  x.dispose();
});

test('nothing is forgotten where nothing is recorded, or where it cannot be computed once more', (t) => {
  const weight = new Parameter('w', [CHANNELS, CHANNELS], randomValues(1, CHANNELS * CHANNELS));
  const norm = new Parameter('n', [CHANNELS], randomValues(1, CHANNELS));
  const x = tf.tensor2d(randomValues(2, TOKENS * CHANNELS), [TOKENS, CHANNELS]);
  const y = rmsNorm(x, norm, 1e-6);
  const before = poolStatistics().usedBytes;
  forgetUntilGradient(y);
  t.is(poolStatistics().usedBytes, before);
  computeGradients(() => {
    const z = linear(x, weight);
    const used = poolStatistics().usedBytes;
    forgetUntilGradient(z, undefined);
    t.is(poolStatistics().usedBytes, used);
    return tf.sum(z) as tf.Scalar;
  });
  tf.dispose([x, y]);
});

test('a forgotten tensor that nobody needs any more leaves nothing behind', (t) => {
  const weight = new Parameter('w', [CHANNELS], randomValues(1, CHANNELS));
  const x = tf.tensor2d(randomValues(2, TOKENS * CHANNELS), [TOKENS, CHANNELS]);
  const [tensors, used] = [nativeBackend().numDataIds(), poolStatistics().usedBytes];
  t.throws(
    () =>
      computeGradients(() => {
        const y = rmsNorm(x, weight, 1e-6);
        forgetUntilGradient(y);
        throw new Error('halfway');
      }),
    { message: 'halfway' },
  );
  t.is(nativeBackend().numDataIds(), tensors);
  t.is(poolStatistics().usedBytes, used);
  x.dispose();
});
