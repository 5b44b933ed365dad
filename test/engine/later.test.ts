/** Gradients whose values are read after the backward pass, as WebGPU needs it. */

import {
  computeGradients,
  computeGradientsLater,
  embedding,
  gatedAttention,
  gatedFeedForward,
  linear,
  linearCrossEntropy,
  Parameter,
  rmsNorm,
  selectBackend,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { randomValues, relativeError } from './support/differential.ts';

const layout = {
  batch: 2,
  sequence: 6,
  heads: 2,
  keyValueHeads: 1,
  headDim: 4,
  gate: 'elementwise',
  epsilon: 1e-6,
} as const;
const ids = Int32Array.from({ length: 12 }, (_, i) => (i * i) % 7);
const targets = Int32Array.from({ length: 12 }, (_, i) => (i * 3) % 7);

/** A small gated decoder layer between embedding and loss, with tied embeddings. */
function network() {
  const shapes = {
    table: [7, 8],
    norm: [8],
    q: [8, 8],
    kv: [4, 8],
    gate: [8, 8],
    up: [20, 8],
    down: [8, 10],
  };
  const gradients = new Map<string, Float32Array>();
  const parameters = Object.fromEntries(
    Object.entries(shapes).map(([name, shape], seed) => {
      const length = tf.util.sizeFromShape(shape);
      const parameter = new Parameter(name, shape, randomValues(seed + 1, length));
      const gradient = new Float32Array(length);
      let contributions = 0;
      gradients.set(name, gradient);
      parameter.sink = () => ({ values: gradient, accumulate: contributions++ > 0 });
      return [name, parameter];
    }),
  ) as Record<keyof typeof shapes, Parameter>;
  const forward = () => {
    const { table, norm, q, kv, gate, up, down } = parameters;
    const x = rmsNorm(embedding(ids, table), norm, 1e-6);
    const attended = gatedAttention(linear(x, q), linear(x, kv), linear(x, kv), linear(x, gate), layout);
    return linearCrossEntropy(gatedFeedForward(attended, up, down), table, targets, { scale: 1 / 12 });
  };
  return { forward, gradients };
}

async function expected() {
  await selectBackend('native');
  const { forward, gradients } = network();
  return { loss: computeGradients(forward), gradients };
}

async function agrees(t: import('ava').ExecutionContext, backend: string) {
  const native = await expected();
  await selectBackend(backend);
  const { forward, gradients } = network();
  const loss = await computeGradientsLater(forward);
  t.true(Math.abs(loss - native.loss) < 1e-5 * native.loss, `${loss} ${native.loss}`);
  for (const [name, gradient] of gradients) {
    t.true(relativeError(gradient, native.gradients.get(name)!) < 1e-4, name);
  }
}

test.serial('they are the gradients read at once, and leave no tensor behind', async (t) => {
  await agrees(t, 'cpu');
  const { forward } = network();
  await computeGradientsLater(forward);
  // Parameters keep their tensors.
  const before = tf.memory().numTensors;
  await computeGradientsLater(forward);
  t.is(tf.memory().numTensors, before);
});

test.serial('nothing goes to the sinks when the forward pass throws', async (t) => {
  await selectBackend('cpu');
  const { gradients } = network();
  const failing = () => {
    throw new Error('forward');
  };
  await t.throwsAsync(computeGradientsLater(failing), { message: 'forward' });
  t.true([...gradients.values()].every((gradient) => gradient.every((value) => value === 0)));
});

/** Why WebGPU does not run here; undefined where it does. */
const absence = await selectBackend('webgpu').then(
  () => undefined,
  (error: Error) => error.message,
);

if (absence === undefined) {
  test.serial('WebGPU computes the loss and the gradients of native, to rounding', (t) =>
    agrees(t, 'webgpu'),
  );
} else {
  test.skip(`WebGPU computes the loss and the gradients of native (skipped: ${absence})`, () => {});
}
