import {
  combineTokens,
  computeGradientsAsync,
  countedFeedForward,
  dispatchTokens,
  everyExpert,
  largestOfRow,
  Parameter,
  planDispatch,
  type RoutingOptions,
  routeExperts,
  selectBackend,
  weighExperts,
  whenRead,
  withReads,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { AWAITED, registerAwaitedBackend } from './support/awaitedBackend.ts';
import { randomValues, relativeError } from './support/differential.ts';

registerAwaitedBackend();

interface Sizes {
  tokens: number;
  channels: number;
  experts: number;
  topK: number;
  units: number;
  normalizeTopK: boolean;
  router: 'softmax' | 'sigmoid';
  isBiased: boolean;
}

/** What a layer gives back, and the gradients that come out of it. */
interface Layer {
  y: tf.Tensor2D;
  counts_E: tf.Tensor1D;
  auxiliaryLoss: tf.Scalar;
}

type Compute = (
  x: tf.Tensor2D,
  router: Parameter,
  gateUp: Parameter,
  down: Parameter,
  options: RoutingOptions,
) => Layer;

const sorted: Compute = (x, router, gateUp, down, options) => {
  const { weights_NK, indices_NK, auxiliaryLoss } = routeExperts(x, router, options);
  const plan = planDispatch(indices_NK, options.loads.length);
  const rows = countedFeedForward(dispatchTokens(x, plan), plan.counts, gateUp, down);
  return { y: combineTokens(rows, weights_NK, plan), counts_E: plan.counts, auxiliaryLoss };
};

const every: Compute = (x, router, gateUp, down, options) => {
  const { weights_NE, counts_E, auxiliaryLoss } = weighExperts(x, router, options);
  return { y: everyExpert(x, weights_NE, gateUp, down), counts_E, auxiliaryLoss };
};

async function measure(backend: string, compute: Compute, sizes: Sizes, seed: number) {
  await selectBackend(backend);
  const { tokens, channels, experts, topK, units, normalizeTopK, isBiased } = sizes;
  const gradients = new Map<string, Float32Array>();
  const parameter = (name: string, shape: number[]) => {
    const made = new Parameter(
      name,
      shape,
      randomValues(seed + gradients.size, tf.util.sizeFromShape(shape)),
    );
    const values = new Float32Array(made.values.length);
    gradients.set(name, values);
    made.sink = () => ({ values, accumulate: false });
    return made;
  };
  const x = parameter('x', [tokens, channels]);
  const router = parameter('router', [experts, channels]);
  const gateUp = parameter('gateUp', [experts, 2 * units, channels]);
  const down = parameter('down', [experts, channels, units]);
  const loads = Float32Array.from({ length: experts }, (_, e) => (2 * (e + 1)) / (experts * (experts + 1)));
  const options: RoutingOptions = {
    ...{ topK, normalizeTopK, loads, totalTokens: tokens },
    ...{ balanceCoefficient: 0.1, zCoefficient: 0.01 },
    ...{ router: sizes.router, scalingFactor: 1.5 },
    ...(isBiased && { bias: new Parameter('bias', [experts], randomValues(seed + 7, experts)) }),
  };
  const numbers: number[] = [];
  await computeGradientsAsync(() => {
    const { y, counts_E, auxiliaryLoss } = compute(x.onTape() as tf.Tensor2D, router, gateUp, down, options);
    const counts = tf.cast(counts_E, 'float32');
    whenRead([y, auxiliaryLoss, counts], (y, auxiliary, counts) =>
      numbers.push(...counts!, ...auxiliary!, ...y!),
    );
    const weights = tf.tensor2d(randomValues(99, tokens * channels), [tokens, channels]);
    return tf.add(tf.sum(tf.mul(y, weights)), auxiliaryLoss) as tf.Scalar;
  });
  for (const { tensor } of [x, router, gateUp, down]) tensor.dispose();
  options.bias?.tensor.dispose();
  return { numbers, gradients };
}

const shapes = fc
  .record({
    tokens: fc.integer({ min: 1, max: 9 }),
    channels: fc.integer({ min: 1, max: 6 }),
    experts: fc.integer({ min: 1, max: 6 }),
    chosen: fc.integer({ min: 1, max: 6 }),
    units: fc.integer({ min: 1, max: 5 }),
    normalizeTopK: fc.boolean(),
    router: fc.constantFrom('softmax' as const, 'sigmoid' as const),
    isBiased: fc.boolean(),
  })
  .map(({ chosen, ...sizes }) => ({ ...sizes, topK: Math.min(chosen, sizes.experts) }));

test.serial(
  'every expert, weighed, is what sorting tokens by expert gives: results, counts, gradients',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.nat(1000), async (sizes, seed) => {
        const expected = await measure('native', sorted, sizes, seed);
        for (const backend of ['cpu', AWAITED]) {
          const { numbers, gradients } = await measure(backend, every, sizes, seed);
          t.true(relativeError(numbers, expected.numbers) < 1e-5);
          for (const [name, gradient] of gradients) {
            t.true(relativeError(gradient, expected.gradients.get(name)!) < 1e-4, name);
          }
        }
      }),
      { numRuns: 80 },
    );
  },
);

test.serial('the largest of a row are those of the smallest index where they are equal', async (t) => {
  const rows = [
    [1, 3, 3, 3],
    [2, 2, 2, 2],
    [-5, -1, -1, -7],
  ];
  const expected = [
    [0, 1, 1, 0],
    [1, 1, 0, 0],
    [0, 1, 1, 0],
  ];
  for (const backend of ['native', 'cpu', AWAITED]) {
    await selectBackend(backend);
    let mask: number[] = [];
    await withReads(() =>
      tf.tidy(() => {
        whenRead([largestOfRow(tf.tensor2d(rows), 2)], (values) => {
          mask = [...values!];
        });
      }),
    );
    t.deepEqual(mask, expected.flat(), backend);
  }
});
