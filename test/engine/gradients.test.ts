import {
  addResidual,
  computeGradients,
  embedding,
  linear,
  linearCrossEntropy,
  poolStatistics,
  rmsNorm,
  whenGradient,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { collected, randomValues, relativeError } from './support/differential.ts';

/** Runs `body` and checks that it leaves neither tensors nor lent buffers. */
function leavesNothing(t: { is(actual: unknown, expected: unknown): void }, body: () => void): void {
  const [tensors, bytes] = [tf.memory().numTensors, poolStatistics().usedBytes];
  body();
  t.is(tf.memory().numTensors, tensors);
  t.is(poolStatistics().usedBytes, bytes);
}

/** Operations with several outputs, broadcasting, and tensors that are used more than once. */
function expression(x: tf.Tensor, y: tf.Tensor): tf.Scalar {
  const product = tf.matMul(x as tf.Tensor2D, y as tf.Tensor2D);
  const [left, , right] = tf.split(tf.softmax(product), [1, 2, 3], 1);
  const joined = tf.concat([left!, tf.square(right!), tf.sigmoid(product)], 1);
  return tf.sum(tf.mul(joined, tf.add(tf.mean(joined, 0), tf.mean(product, 1, true)))) as tf.Scalar;
}

for (const backend of ['native', 'cpu']) {
  test.serial(`gradients of plain operations are those of TensorFlow.js's own walk on ${backend}`, (t) => {
    tf.setBackend(backend);
    const [x, y] = [collected(1, [4, 5]), collected(2, [5, 6])];
    const [dx, dy] = tf.tidy(() =>
      tf.grads(expression)([
        tf.tensor(x.parameter.hostValues, [4, 5]),
        tf.tensor(y.parameter.hostValues, [5, 6]),
      ]),
    );
    const loss = computeGradients(() => expression(x.parameter.onTape(), y.parameter.onTape()));
    t.true(relativeError(x.gradient, dx!.dataSync()) < 1e-6);
    t.true(relativeError(y.gradient, dy!.dataSync()) < 1e-6);
    t.true(Number.isFinite(loss));
    tf.dispose([dx!, dy!]);
  });
}

test.serial('a gradient function may hand the same tensor to several inputs', (t) => {
  tf.setBackend('native');
  const table = collected(3, [4, 6]);
  const add = tf.customGrad((a, b) => ({
    value: tf.add(a as tf.Tensor, b as tf.Tensor),
    gradFunc: (dy: tf.Tensor) => [dy, dy],
  }));
  computeGradients(() => {
    const [a, b] = [
      embedding(Int32Array.of(0, 1), table.parameter),
      embedding(Int32Array.of(1, 2), table.parameter),
    ];
    return tf.sum(add(a, b)) as tf.Scalar;
  });
  t.deepEqual(
    [...table.gradient],
    [1, 2, 1, 0].flatMap((count) => Array(6).fill(count)),
  );
});

test.serial(
  'a gradient function may return a tensor of the user’s, or a saved one, and they stay whole',
  (t) => {
    tf.setBackend('native');
    const theirs = tf.keep(tf.tensor1d([1, 2, 3]));
    const { parameter, gradient } = collected(1, [3]);
    const foreign = tf.customGrad((x) => ({
      value: tf.sum(x as tf.Tensor),
      gradFunc: () => theirs,
    }));
    const half = tf.customGrad((x, save) => {
      (save as tf.GradSaveFunc)([x as tf.Tensor]);
      return {
        value: tf.div(tf.sum(tf.square(x as tf.Tensor)), 2),
        gradFunc: (_dy: tf.Tensor, saved: tf.Tensor[]) => saved[0]!,
      };
    });
    computeGradients(() => {
      const x = parameter.onTape();
      return tf.addN([foreign(x), half(x), foreign(x)]) as tf.Scalar;
    });
    const expected = parameter.hostValues.map((value, i) => value + 2 * (i + 1));
    t.true(relativeError(gradient, expected) < 1e-6);
    t.deepEqual([...theirs.dataSync()], [1, 2, 3]);
    theirs.dispose();
  },
);

test.serial('a gradient that TensorFlow.js is handed by the user survives a fused operation', (t) => {
  tf.setBackend('native');
  const { parameter } = collected(1, [7]);
  parameter.sink = undefined;
  const [x, dy] = [tf.tensor2d(randomValues(1, 14), [2, 7]), tf.tensor2d(randomValues(2, 14), [2, 7])];
  const before = dy.dataSync().slice();
  const chain = (input: tf.Tensor) => addResidual(input, rmsNorm(input as tf.Tensor2D, parameter, 1e-6));
  const first = tf.grad(chain)(x, dy);
  const second = tf.grad(chain)(x, dy);
  t.deepEqual(dy.dataSync(), before);
  t.deepEqual(first.dataSync(), second.dataSync());
  tf.dispose([x, dy, first, second]);
});

test.serial('weights get their gradients also where the activations have none', (t) => {
  tf.setBackend('native');
  const [weight, other] = [collected(1, [2, 3]), collected(2, [2, 3])];
  const loss = computeGradients(() => {
    const x = tf.tensor2d([1, 2, 3], [1, 3]);
    return tf.sum(tf.mul(linear(x, weight.parameter), linear(x, other.parameter))) as tf.Scalar;
  });
  const outputs = [0, 1].map((o) =>
    [1, 2, 3].reduce((sum, x, c) => sum + x * other.parameter.hostValues[o * 3 + c]!, 0),
  );
  t.true(
    relativeError(
      weight.gradient,
      outputs.flatMap((y) => [y, 2 * y, 3 * y]),
    ) < 1e-6,
  );
  t.true(Number.isFinite(loss));
});

test.serial('outputs that do not enter the loss have a gradient of zero', (t) => {
  tf.setBackend('native');
  const { parameter, gradient } = collected(1, [2, 3]);
  computeGradients(() => tf.sum(tf.unstack(parameter.onTape())[1]!) as tf.Scalar);
  t.deepEqual([...gradient], [0, 0, 0, 1, 1, 1]);
});

test.serial('whatever is thrown in the forward pass, nothing stays behind', (t) => {
  tf.setBackend('native');
  const [table, weight] = [collected(1, [4, 8]).parameter, collected(2, [8]).parameter];
  // The parameters keep tensors of their own.
  computeGradients(() => tf.sum(rmsNorm(embedding(Int32Array.of(1), table), weight, 1e-6)) as tf.Scalar);
  leavesNothing(t, () => {
    t.throws(
      () =>
        computeGradients(() => {
          const x = tf.square(rmsNorm(embedding(Int32Array.of(1, 2, 3), table), weight, 1e-6)) as tf.Tensor2D;
          linearCrossEntropy(x, table, Int32Array.of(0, 1, 2), { scale: 1 });
          throw new Error('no more');
        }),
      { message: 'no more' },
    );
    // Within a kernel, when its output is already there.
    t.throws(() => computeGradients(() => tf.sum(embedding(Int32Array.of(1, 7), table)) as tf.Scalar), {
      message: /token 7/,
    });
  });
  leavesNothing(t, () => {
    const loss = computeGradients(() => tf.sum(embedding(Int32Array.of(1), table)) as tf.Scalar);
    t.true(Number.isFinite(loss));
  });
});

test.serial('whatever is thrown in the backward pass, nothing stays behind', (t) => {
  tf.setBackend('native');
  const [table, weight] = [collected(1, [4, 8]).parameter, collected(2, [8, 8]).parameter];
  const stop = tf.customGrad((x) => ({
    value: (x as tf.Tensor).clone(),
    gradFunc: () => {
      throw new Error('no further');
    },
  }));
  const pass = (barrier: (x: tf.Tensor) => tf.Tensor) =>
    computeGradients(() => {
      const x = barrier(tf.sigmoid(embedding(Int32Array.of(1, 2, 3), table))) as tf.Tensor2D;
      return tf.sum(linear(linear(x, weight), weight)) as tf.Scalar;
    });
  leavesNothing(t, () => t.throws(() => pass(stop), { message: 'no further' }));
  leavesNothing(t, () => {
    weight.sink = () => {
      throw new Error('no place');
    };
    t.throws(() => pass((x) => x), { message: 'no place' });
  });
  weight.sink = undefined;
  leavesNothing(t, () => t.true(Number.isFinite(pass((x) => x))));
});

test.serial('calls that do not nest and losses without a gradient are refused', (t) => {
  const { parameter } = collected(1, [3]);
  t.throws(() => computeGradients(() => tf.scalar(3)), { message: /depends on no parameter/ });
  t.throws(
    () =>
      computeGradients(() => {
        computeGradients(() => tf.sum(parameter.onTape()) as tf.Scalar);
        return tf.scalar(0);
      }),
    { message: /do not nest/ },
  );
  t.throws(() => computeGradients(() => tf.sum(tf.topk(parameter.onTape(), 2).values) as tf.Scalar), {
    message: /TopK has no gradient/,
  });
  t.true(Number.isFinite(computeGradients(() => tf.sum(parameter.onTape()) as tf.Scalar)));
});

test.serial('memory falls during the backward pass', (t) => {
  tf.setBackend('native');
  const [table, weight] = [collected(1, [64, 256]).parameter, collected(2, [256]).parameter];
  const used: number[] = [];
  computeGradients(() => {
    let x = embedding(new Int32Array(64), table);
    for (let layer = 0; layer < 6; layer++) {
      x = tf.tidy(() =>
        rmsNorm(
          whenGradient(x, () => used.push(poolStatistics().usedBytes)),
          weight,
          1e-6,
        ),
      );
    }
    return tf.sum(x) as tf.Scalar;
  });
  t.is(used.length, 6);
  for (const [i, bytes] of used.entries()) if (i > 0) t.true(bytes <= used[i - 1]! - 64 * 256 * 4);
});

test.serial('a residual stream’s gradient is added to in place', (t) => {
  tf.setBackend('native');
  const [table, weight] = [collected(1, [64, 256]).parameter, collected(2, [256]).parameter];
  const pass = () =>
    computeGradients(() => {
      let x = embedding(new Int32Array(64), table);
      for (let layer = 0; layer < 8; layer++) {
        const below = x;
        x = tf.tidy(() => addResidual(below, rmsNorm(below, weight, 1e-6)));
        below.dispose();
      }
      return tf.sum(x) as tf.Scalar;
    });
  pass();
  // Nine values of the stream, and in the backward pass three more: gradient of the stream, of a branch, and of both.
  t.true(poolStatistics().peakUsedBytes <= 12.5 * 64 * 256 * 4 + 100_000);
});
