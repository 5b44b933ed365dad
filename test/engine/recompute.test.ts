import { computeGradients, recomputed } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { collected, relativeError } from './support/differential.ts';

/** A network with a part in the middle that uses a parameter, and its input twice. */
function run(middle: (compute: (x: tf.Tensor) => tf.Tensor, x: tf.Tensor) => tf.Tensor) {
  const [table, weight] = [collected(1, [5, 4]), collected(2, [4, 4])];
  let evaluations = 0;
  const compute = (x: tf.Tensor) => {
    evaluations++;
    return tf.mul(tf.sigmoid(tf.matMul(x as tf.Tensor2D, weight.parameter.onTape() as tf.Tensor2D)), x);
  };
  const tensors = tf.memory().numTensors;
  const loss = computeGradients(() => {
    const x = tf.square(table.parameter.onTape());
    return tf.sum(tf.add(middle(compute, x), x)) as tf.Scalar;
  });
  // Parameters keep one tensor each.
  return { loss, table, weight, evaluations, kept: tf.memory().numTensors - tensors - 2 };
}

for (const backend of ['native', 'cpu']) {
  test.serial(
    `recomputing changes gradients by rounding alone and leaves nothing behind on ${backend}`,
    async (t) => {
      await tf.setBackend(backend);
      const plain = run((compute, x) => compute(x));
      const again = run((compute, x) => recomputed([x], compute));
      t.is(again.loss, plain.loss);
      t.true(relativeError(again.table.gradient, plain.table.gradient) < 1e-6);
      t.true(relativeError(again.weight.gradient, plain.weight.gradient) < 1e-6);
      t.is(again.weight.contributions(), 1);
      t.is(again.evaluations, 2);
      t.is(again.kept, 0);
    },
  );
}

test.serial('the tape keeps the inputs alone', async (t) => {
  await tf.setBackend('cpu');
  const atBackward = (middle: Parameters<typeof run>[0]) => {
    let tensors = 0;
    run((compute, x) => {
      const y = middle(compute, x);
      tensors = tf.memory().numTensors;
      return y;
    });
    return tensors;
  };
  t.true(atBackward((compute, x) => recomputed([x], compute)) < atBackward((compute, x) => compute(x)));
});

test.serial(
  'the same tensor may be two inputs, and an input without influence has a gradient of zero',
  async (t) => {
    await tf.setBackend('cpu');
    const gradientOf = (
      compute: (a: tf.Tensor, b: tf.Tensor, c: tf.Tensor) => tf.Tensor,
      isPlain: boolean,
    ) => {
      const { parameter, gradient } = collected(3, [6]);
      computeGradients(() => {
        const x = tf.square(parameter.onTape());
        return tf.sum(isPlain ? compute(x, x, x) : recomputed([x, x, x], compute)) as tf.Scalar;
      });
      return gradient;
    };
    const compute = (a: tf.Tensor, b: tf.Tensor) => tf.mul(a, tf.sigmoid(b));
    t.deepEqual(gradientOf(compute, false), gradientOf(compute, true));
  },
);

test.serial('what is thrown when it is computed again leaves no tensor behind', async (t) => {
  await tf.setBackend('cpu');
  const { parameter } = collected(4, [3]);
  parameter.tensor;
  const tensors = tf.memory().numTensors;
  let evaluations = 0;
  const failing = (x: tf.Tensor) => {
    if (++evaluations === 2) throw new Error('the second time');
    return tf.exp(x);
  };
  t.throws(() => computeGradients(() => tf.sum(recomputed([parameter.onTape()], failing)) as tf.Scalar), {
    message: 'the second time',
  });
  t.is(tf.memory().numTensors, tensors);
});

test.serial('without a backward pass it is computed once', async (t) => {
  await tf.setBackend('cpu');
  let evaluations = 0;
  const x = tf.tensor1d([1, 2]);
  const y = recomputed([x], (input) => {
    evaluations++;
    return tf.square(input);
  });
  t.deepEqual([...y.dataSync()], [1, 4]);
  t.is(evaluations, 1);
  tf.dispose([x, y]);
});
