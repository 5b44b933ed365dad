/** Memory over many steps of a tiny mixture-of-experts layer, and of the same kind of layer in plain operations. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  addResidual,
  attentionHeads,
  combineTokens,
  computeGradients,
  countedFeedForward,
  dispatchTokens,
  embedding,
  gatedAttention,
  linear,
  linearCrossEntropy,
  nativeBackend,
  Parameter,
  planDispatch,
  poolStatistics,
  rmsNorm,
  rotaryTable,
  routeExperts,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test, { type ExecutionContext } from 'ava';
import { layoutOf } from './support/attention.ts';
import { randomValues } from './support/differential.ts';

const [TOKENS, CHANNELS, VOCABULARY, EXPERTS, TOP_K, UNITS] = [24, 16, 40, 4, 2, 8];
const LAYOUT = layoutOf([2, 12, 2, 2, 8], 'elementwise');

function parameter(seed: number, shape: number[]): Parameter {
  const values = randomValues(seed, tf.util.sizeFromShape(shape), 0.3);
  const made = new Parameter(`p${seed}`, shape, values);
  const gradient = new Float32Array(values.length);
  made.sink = () => ({ values: gradient, accumulate: true });
  return made;
}

const WEIGHTS = {
  table: parameter(1, [VOCABULARY, CHANNELS]),
  norm: parameter(2, [CHANNELS]),
  heads: parameter(3, [(2 * 4 + 2 * 2) * 8, CHANNELS]),
  output: parameter(4, [CHANNELS, 4 * 8]),
  router: parameter(5, [EXPERTS, CHANNELS]),
  gateUp: parameter(6, [EXPERTS, 2 * UNITS, CHANNELS]),
  down: parameter(7, [EXPERTS, CHANNELS, UNITS]),
};
const ROTARY = rotaryTable(12, 8, 10_000);

function tokensOf(step: number): Int32Array {
  return Int32Array.from(randomValues(step, TOKENS), (value) => Math.floor(((value + 1) / 2) * VOCABULARY));
}

function attention(x: tf.Tensor2D): tf.Tensor2D {
  const heads = attentionHeads(
    linear(rmsNorm(x, WEIGHTS.norm, 1e-6), WEIGHTS.heads),
    null,
    null,
    ROTARY,
    LAYOUT,
  );
  return linear(gatedAttention(heads.q, heads.k, heads.v, heads.gate, LAYOUT), WEIGHTS.output);
}

/** Routed differently at every step, so that sizes vary. */
function experts(x: tf.Tensor2D): { y: tf.Tensor2D; auxiliaryLoss: tf.Scalar } {
  const normed = rmsNorm(x, WEIGHTS.norm, 1e-6);
  const { weights_NK, indices_NK, auxiliaryLoss } = routeExperts(normed, WEIGHTS.router, {
    topK: TOP_K,
    normalizeTopK: true,
    balanceCoefficient: 0.01,
    zCoefficient: 0.001,
    loads: new Float32Array(EXPERTS).fill(1 / EXPERTS),
    totalTokens: TOKENS,
  });
  const plan = planDispatch(indices_NK, EXPERTS);
  const routed = dispatchTokens(normed, plan);
  const rows = countedFeedForward(routed, plan.counts, WEIGHTS.gateUp, WEIGHTS.down);
  return { y: combineTokens(rows, weights_NK, plan), auxiliaryLoss };
}

function fusedLoss(step: number): tf.Scalar {
  const x = embedding(tokensOf(step), WEIGHTS.table);
  const middle = addResidual(x, attention(x));
  const { y, auxiliaryLoss } = experts(middle);
  const last = addResidual(middle, y);
  const loss = linearCrossEntropy(last, WEIGHTS.table, tokensOf(step + 1), { scale: 1 / TOKENS });
  return tf.add(loss, auxiliaryLoss);
}

function plainLoss(step: number): tf.Scalar {
  const x = tf.gather(WEIGHTS.table.onTape(), tf.tensor1d(tokensOf(step), 'int32')) as tf.Tensor2D;
  const normed = tf.mul(
    tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), 1, true), 1e-6))),
    WEIGHTS.norm.onTape(),
  );
  const projected = tf.matMul(normed as tf.Tensor2D, WEIGHTS.heads.onTape() as tf.Tensor2D, false, true);
  const [value, gate] = tf.split(projected, 2, 1) as [tf.Tensor2D, tf.Tensor2D];
  const gated = tf.mul(value, tf.sigmoid(gate));
  return tf.mean(tf.square(tf.concat([gated, tf.transpose(tf.transpose(value))], 1))) as tf.Scalar;
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

interface Footprint {
  readonly tensors: number;
  readonly dataIds: number;
  readonly usedBytes: number;
  readonly allocatedBytes: number;
  readonly buffersMade: number;
}

function footprint(): Footprint {
  const { usedBytes, allocatedBytes, buffersMade } = poolStatistics();
  const { numTensors } = tf.memory();
  return {
    tensors: numTensors,
    dataIds: nativeBackend().numDataIds(),
    usedBytes,
    allocatedBytes,
    buffersMade,
  };
}

/** Bytes of the heap and of array buffers that are still reachable. */
function reachableBytes(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function holdsItsMemory(t: ExecutionContext, loss: (step: number) => tf.Scalar): void {
  tf.setBackend('native');
  const initial = footprint();
  for (let step = 0; step < 100; step++) computeGradients(() => loss(step));
  const [warm, warmBytes] = [footprint(), reachableBytes()];
  for (let step = 100; step < 1000; step++) computeGradients(() => loss(step));
  t.deepEqual(footprint(), warm);
  t.is(warm.usedBytes, initial.usedBytes);
  // Compiled code still grows a little; one tensor left behind at each step would be more.
  t.true(reachableBytes() < warmBytes + 2 ** 20);
}

test.serial('a thousand steps of fused operations need no more memory than a hundred', (t) => {
  holdsItsMemory(t, fusedLoss);
});

test.serial('a thousand steps of plain operations need no more memory than a hundred', (t) => {
  holdsItsMemory(t, plainLoss);
});
