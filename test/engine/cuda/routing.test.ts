/** Experts are chosen, and rows planned, on the device: with the bits of `native`, and without the host waiting for it. */

import {
  computeGradients,
  planDispatch,
  planOnHost,
  type RoutingOptions,
  routeExperts,
  selectBackend,
} from '@sluice/engine';
import { cudaBackend } from '@sluice/engine/cuda';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { batch, tinyDecoder, tinyModel } from '../../model/support.ts';
import { emulator, fromBf16, toBf16 } from '../support/cuda.ts';
import { type Operands, type Operation, randomValues, runOperation } from '../support/differential.ts';
import { waitsIn } from '../support/waits.ts';

const [TOKENS, EXPERTS] = [21, 40];

/** Logits are given: the router is the identity, of which no product rounds anything. */
const OPERANDS: Operands = {
  x: { shape: [TOKENS, EXPERTS], values: fromBf16(toBf16(randomValues(1, TOKENS * EXPERTS, 2))) },
  router: {
    shape: [EXPERTS, EXPERTS],
    values: Float32Array.from({ length: EXPERTS ** 2 }, (_, i) => (i % (EXPERTS + 1) ? 0 : 1)),
  },
};
// Equal logits, of which the first is to be chosen.
OPERANDS.x!.values.fill(1.5, 3 * EXPERTS, 4 * EXPERTS);

const loads = randomValues(7, EXPERTS).map((value) => (1 + value) / EXPERTS);
const PLAIN: RoutingOptions = {
  ...{ topK: 6, normalizeTopK: true, balanceCoefficient: 0.5, zCoefficient: 0.3, loads, totalTokens: 50 },
};
const GROUPS = { count: 8, topK: 3 };
const KINDS: Readonly<Record<string, RoutingOptions & { isBiased?: boolean }>> = {
  'a softmax': PLAIN,
  'a softmax whose weights are not divided by their sum': { ...PLAIN, normalizeTopK: false, topK: 1 },
  sigmoids: { ...PLAIN, router: 'sigmoid', scalingFactor: 2.5 },
  'biased sigmoids in groups': { ...PLAIN, router: 'sigmoid', groups: GROUPS, isBiased: true },
  'a softmax in groups of one': { ...PLAIN, groups: { count: EXPERTS, topK: 9 } },
};

/** Weights, auxiliary loss and chosen experts. */
function route({ isBiased, ...options }: RoutingOptions & { isBiased?: boolean }): Operation {
  return ({ x, router, bias }) => {
    const routing = { ...options, ...(isBiased && { bias: bias! }) };
    const result = routeExperts(x!.onTape() as tf.Tensor2D, router!, routing);
    const { weights_NK, indices_NK, auxiliaryLoss } = result;
    const indices = tf.cast(indices_NK, 'float32');
    return tf.concat([weights_NK, indices, auxiliaryLoss].map((part) => tf.reshape(part, [-1])));
  };
}

test.before(async () => {
  process.env.SLUICE_CUDA = 'emulated';
  await selectBackend('native');
  await selectBackend('cuda');
});

test.after(() => emulator.set({}));

for (const [name, options] of Object.entries(KINDS)) {
  test.serial(`${name}: choice, weights, loss and gradients have the bits of native, in any order`, (t) => {
    const bias = { shape: [EXPERTS], values: randomValues(9, EXPERTS) };
    const operands = { ...OPERANDS, ...(options.isBiased && { bias }) };
    const expected = runOperation('native', route(options), operands);
    for (const order of ['forward', 'shuffled'] as const) {
      emulator.set({ order });
      const { output, gradients } = runOperation('cuda', route(options), operands);
      t.deepEqual(output, expected.output);
      // That of x is bf16, as all activations are.
      t.deepEqual(gradients.x, fromBf16(toBf16(expected.gradients.x!)));
    }
  });
}

test.serial('logits that are no numbers still give each token distinct experts', (t) => {
  tf.setBackend('cuda');
  const values = OPERANDS.x!.values.slice();
  values.fill(Number.NaN, 0, EXPERTS);
  values.fill(Number.NaN, EXPERTS + 3, 2 * EXPERTS);
  values.fill(Number.NEGATIVE_INFINITY, 2 * EXPERTS, 3 * EXPERTS);
  const { output } = runOperation('cuda', route({ ...PLAIN, groups: GROUPS }), {
    ...OPERANDS,
    x: { ...OPERANDS.x!, values },
  });
  const indices = output.subarray(TOKENS * PLAIN.topK, 2 * TOKENS * PLAIN.topK);
  for (let token = 0; token < TOKENS; token++) {
    const own = new Set(indices.subarray(token * PLAIN.topK, (token + 1) * PLAIN.topK));
    t.is(own.size, PLAIN.topK);
    t.true([...own].every((expert) => expert >= 0 && expert < EXPERTS));
  }
});

test.serial('rows are planned as on the host, in any order of threads', (t) => {
  tf.setBackend('cuda');
  for (const [tokens, topK, experts] of [
    [1, 1, 1],
    [515, 2, 7],
    [9000, 2, 33],
    [0, 2, 5],
  ] as const) {
    const chosen = Int32Array.from(randomValues(experts, tokens * topK), (x) =>
      Math.floor(((x + 1) / 2) ** 2 * experts),
    );
    const expected = planOnHost(chosen, experts);
    for (const order of ['forward', 'shuffled'] as const) {
      emulator.set({ order });
      const plan = tf.tidy(() => {
        const { order, position, counts } = planDispatch(
          tf.tensor2d(chosen, [tokens, topK], 'int32'),
          experts,
        );
        return [order, position, counts].map((tensor) => tensor.dataSync<'int32'>());
      });
      t.deepEqual(plan, expected);
    }
  }
});

/** How often the host waits for the device in a forward and backward pass. */
async function waitsOf(numLayers: number, count: number): Promise<number> {
  const model = tinyModel({
    ...{ hiddenSize: 32, headDim: 32, intermediateSize: undefined, numLayers },
    experts: { count, topK: 2, intermediateSize: 8, normalizeTopK: true, balanceCoefficient: 0.1 },
  });
  const { driver } = cudaBackend().device;
  const { decoder, parameters } = tinyDecoder(model);
  const length = Math.max(...[...parameters.values()].map(({ values }) => values.length));
  const gradient = cudaBackend().device.allocate(length, 'f32');
  for (const parameter of parameters.values()) {
    parameter.sink = () => ({ values: gradient.subarray(0, parameter.values.length), accumulate: false });
  }
  const counts: number[] = [];
  const loss = () =>
    decoder.loss({
      ...batch(),
      onParts: ({ expertCounts }) => {
        for (const ofLayer of expertCounts) counts.push(ofLayer.reduce((sum, tokens) => sum + tokens, 0));
      },
    });
  const waits = await waitsIn(driver, () => computeGradients(loss));
  for (const { tensor } of parameters.values()) tensor.dispose();
  cudaBackend().device.free(gradient);
  return counts.every((tokens) => tokens === 2 * batch().inputs.length) ? waits : Number.NaN;
}

test.serial(
  'a pass through experts waits for the device thrice, however many layers there are: for losses',
  async (t) => {
    tf.setBackend('cuda');
    t.is(await waitsOf(4, 4), 3);
    t.is(await waitsOf(1, 4), 3);
  },
);
