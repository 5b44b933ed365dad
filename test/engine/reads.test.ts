/** Values, and with them gradients, that are read after the pass, as WebGPU needs it. */

import {
  computeGradients,
  computeGradientsAsync,
  embedding,
  gatedAttention,
  gatedFeedForward,
  linear,
  linearCrossEntropy,
  Parameter,
  rmsNorm,
  selectBackend,
  whenGradient,
  whenRead,
  withReads,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test, { type ExecutionContext } from 'ava';
import { layoutOf } from './support/attention.ts';
import { AWAITED, registerAwaitedBackend } from './support/awaitedBackend.ts';
import { randomValues, relativeError } from './support/differential.ts';

registerAwaitedBackend();

const layout = layoutOf([2, 6, 1, 2, 4], 'elementwise');
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
    Object.entries(shapes).map(([name, shape], seed): [string, Parameter] => {
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

async function agrees(t: ExecutionContext, backend: string) {
  await selectBackend('native');
  const expected = network();
  const expectedLoss = computeGradients(expected.forward);
  await selectBackend(backend);
  const { forward, gradients } = network();
  const loss = await computeGradientsAsync(forward);
  t.true(Math.abs(loss - expectedLoss) < 1e-5 * expectedLoss, `${loss} ${expectedLoss}`);
  for (const [name, gradient] of gradients) {
    t.true(relativeError(gradient, expected.gradients.get(name)!) < 1e-4, name);
  }
}

test.serial('gradients that are awaited are those that are read at once', async (t) => {
  await agrees(t, 'cpu');
  await agrees(t, AWAITED);
});

test.serial('a pass leaves no tensor behind, whether it ends or throws', async (t) => {
  await selectBackend(AWAITED);
  const { forward, gradients } = network();
  await computeGradientsAsync(forward);
  // Parameters keep their tensors.
  const before = tf.memory().numTensors;
  await computeGradientsAsync(forward);
  t.is(tf.memory().numTensors, before);
  for (const gradient of gradients.values()) gradient.fill(0);
  const failing = () => {
    forward();
    throw new Error('forward');
  };
  await t.throwsAsync(computeGradientsAsync(failing), { message: 'forward' });
  await t.throwsAsync(
    withReads(() => tf.tidy(() => whenRead([tf.scalar(1)], reading))),
    { message: 'use' },
  );
  t.is(tf.memory().numTensors, before);
  t.true([...gradients.values()].every((gradient) => gradient.every((value) => value === 0)));
});

function reading(): void {
  throw new Error('use');
}

test.serial(
  'values come in the order in which they were asked for, and announcements between them',
  async (t) => {
    const heard: (number | string)[] = [];
    const pass = () =>
      tf.tidy(() => {
        whenRead([tf.scalar(1)], (one) => heard.push(one![0]!));
        whenRead([], () => heard.push('then'));
        whenRead([tf.scalar(2), tf.scalar(3)], (two, three) => heard.push(two![0]!, three![0]!));
        return heard.length;
      });
    await selectBackend('native');
    t.is(await withReads(pass), 4);
    await selectBackend(AWAITED);
    t.is(await withReads(pass), 4);
    t.deepEqual(heard, [1, 'then', 2, 3, 1, 'then', 2, 3]);
  },
);

test.serial('a stage is announced when its gradients have arrived', async (t) => {
  for (const backend of ['native', AWAITED]) {
    await selectBackend(backend);
    const heard: string[] = [];
    const [first, second] = ['first', 'second'].map((name): Parameter => {
      const parameter = new Parameter(name, [2, 2], new Float32Array([1, 2, 3, 4]));
      parameter.sink = () => {
        heard.push(name);
        return { values: new Float32Array(4), accumulate: false };
      };
      return parameter;
    }) as [Parameter, Parameter];
    await computeGradientsAsync(() => {
      const y = whenGradient(linear(tf.ones([1, 2]), first), () => heard.push('stage'));
      return tf.sum(linear(y, second)) as tf.Scalar;
    });
    t.deepEqual(heard, ['second', 'stage', 'first'], backend);
  }
});

test.serial('values that nobody awaits are refused, and so are passes within passes', async (t) => {
  await selectBackend(AWAITED);
  const { forward } = network();
  t.throws(() => computeGradients(forward), { message: /can only be awaited/ });
  await t.throwsAsync(
    withReads(() => withReads(() => {})).then(() => {}),
    { message: /do not nest/ },
  );
  t.true(Number.isFinite(await computeGradientsAsync(forward)));
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
