import { poolStatistics, selectBackend, setThreads } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { randomValues, relativeError } from './support/differential.ts';

const shapes = fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 4 });

interface Result {
  readonly shape: number[];
  readonly values: Float32Array;
}

function run(backend: string, compute: () => tf.Tensor | tf.Tensor[]): Result[] {
  tf.setBackend(backend);
  return tf.tidy(() =>
    [compute()].flat().map((y) => ({ shape: y.shape, values: y.dataSync<'float32'>().slice() })),
  ) as unknown as Result[];
}

test.before('cuda on the emulator', async () => {
  process.env.SLUICE_CUDA = 'emulated';
  await selectBackend('cuda');
});

/** Whether our backends give the same as the plain one, to single precision. */
function agree(compute: () => tf.Tensor | tf.Tensor[]): boolean {
  const plain = run('cpu', compute);
  return ['native', 'cuda'].every((backend) =>
    run(backend, compute).every(
      ({ shape, values }, i) =>
        shape.join() === plain[i]!.shape.join() && relativeError(values, plain[i]!.values) < 2e-6,
    ),
  );
}

const random = (seed: number, shape: number[]) =>
  tf.tensor(randomValues(seed, tf.util.sizeFromShape(shape), 3), shape);

test.serial('arithmetic with broadcasting agrees with the stock kernels over random shapes', (t) => {
  fc.assert(
    fc.property(shapes, fc.nat(0xfff), (shape, mask) => {
      // Some axes of either operand have size 1, or are missing.
      const cut = (bits: number) => shape.map((size, axis) => ((bits >> axis) & 1 ? 1 : size));
      const [a, b] = [cut(mask & 0xf).slice(mask >> 8 === 1 ? 1 : 0), cut((mask >> 4) & 0xf)];
      return [tf.add, tf.sub, tf.mul, tf.div].every((operation) =>
        agree(() => [operation(random(1, a), random(2, b)), operation(random(3, b), random(4, a))]),
      );
    }),
    { numRuns: 60 },
  );
  t.pass();
});

test.serial('operations on each element agree with the stock kernels', (t) => {
  const operations = [tf.sigmoid, tf.tanh, tf.relu, tf.neg, tf.square, (x: tf.Tensor) => tf.sqrt(tf.abs(x))];
  for (const shape of [[], [0], [1], [37], [5, 64]]) {
    for (const operation of operations)
      t.true(
        agree(() => operation(random(5, shape))),
        `${operation.name} [${shape}]`,
      );
    t.true(agree(() => tf.rsqrt(tf.add(tf.abs(random(5, shape)), 0.1))));
  }
});

test.serial('numbers that are none stay so', (t) => {
  const x = () => tf.tensor1d([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -1, 0]);
  const results = run('native', () => [tf.relu(x()), tf.sigmoid(x()), tf.sum(x()), tf.tanh(x())]);
  const [relu, sigmoid, sum, tanh] = results;
  t.deepEqual([...relu!.values], [Number.NaN, Number.POSITIVE_INFINITY, 0, 0, 0]);
  t.true(Number.isNaN(sigmoid!.values[0]!));
  t.true(relativeError(sigmoid!.values.subarray(1), [1, 0, 1 / (1 + Math.E), 0.5]) < 1e-6);
  t.true(Number.isNaN(sum!.values[0]!));
  t.true(Number.isNaN(tanh!.values[0]!));
  t.true(relativeError(tanh!.values.subarray(1), [1, -1, Math.tanh(-1), 0]) < 1e-6);
});

test.serial('the hyperbolic tangent is right to the last digits, near zero and far away', (t) => {
  const x = Float32Array.from({ length: 4001 }, (_, i) => ((i - 2000) / 2000) ** 3 * 12);
  const [tanh] = run('native', () => tf.tanh(tf.tensor1d(x)));
  const worst = x.reduce((most, value, i) => {
    const expected = Math.tanh(value);
    return Math.max(
      most,
      expected === 0 ? Math.abs(tanh!.values[i]!) : Math.abs(tanh!.values[i]! / expected - 1),
    );
  }, 0);
  t.true(worst < 4e-7, `${worst}`);
});

test.serial('sums, means and softmax agree with the stock kernels over random shapes and axes', (t) => {
  fc.assert(
    fc.property(shapes, fc.nat(15), fc.boolean(), (shape, mask, keepDims) => {
      const axes = shape.map((_, axis) => axis).filter((axis) => (mask >> axis) & 1);
      const isEmpty = shape.includes(0);
      return agree(() => {
        const x = random(6, shape);
        const sums = [tf.sum(x, axes, keepDims), tf.sum(x), tf.softmax(x)];
        return isEmpty ? sums : [...sums, tf.mean(x, axes, keepDims), tf.mean(x, -1)];
      });
    }),
    { numRuns: 80 },
  );
  t.true(agree(() => [tf.sum(random(1, [300, 500]), 0), tf.mean(random(1, [300, 500]), 1)]));
});

test.serial('a sum is formed in double precision', (t) => {
  const [sum, column] = run('native', () => {
    const x = tf.concat([tf.fill([1, 1], 1e8), tf.ones([4095, 1])]);
    return [tf.sum(x), tf.sum(tf.tile(x, [1, 3]), 0)];
  });
  t.is(sum!.values[0], Math.fround(1e8 + 4095));
  t.deepEqual([...column!.values], Array(3).fill(Math.fround(1e8 + 4095)));
});

test.serial('slices, splits, joins and transposes agree with the stock kernels over random shapes', (t) => {
  fc.assert(
    fc.property(shapes, fc.nat(10_000), (shape, seed) => {
      const axis = seed % shape.length;
      const begin = shape.map((size, i) => (size === 0 ? 0 : (seed >> i) % size));
      const sizes = shape.map((size, i) => Math.min(size - begin[i]!, 1 + ((seed >> (i + 3)) % 5)));
      const order = shape.map((_, i) => i).sort((a, b) => ((seed >> a) & 3) - ((seed >> b) & 3));
      return agree(() => {
        const x = random(7, shape);
        const parts = tf.split(
          x,
          [Math.floor(shape[axis]! / 2), shape[axis]! - Math.floor(shape[axis]! / 2)],
          axis,
        );
        const joined = tf.concat([x, parts[1]!, parts[0]!], axis);
        return [tf.slice(x, begin, sizes), ...parts, joined, tf.transpose(x, order), tf.transpose(joined)];
      });
    }),
    { numRuns: 80 },
  );
  t.pass();
});

test.serial('other types are left to the stock kernels', (t) => {
  const whole = () =>
    tf.tensor2d(
      [
        [7, -3],
        [2, 9],
      ],
      [2, 2],
      'int32',
    );
  const truth = () => tf.tensor1d([1, 0, 1, 1], 'bool');
  t.true(
    agree(() => [
      tf.add(whole(), whole()),
      tf.mul(whole(), tf.scalar(2.5)),
      tf.sum(whole(), 1),
      tf.sum(truth()),
      tf.concat([whole(), whole()], 1),
      tf.transpose(whole()),
      tf.square(whole()),
    ]),
  );
  t.is(
    tf.tidy(() => tf.add(whole(), whole()).dtype),
    'int32',
  );
});

test.serial('plain operations work on pooled memory and leave none behind', (t) => {
  tf.setBackend('native');
  const used = poolStatistics().usedBytes;
  const step = () =>
    tf.tidy(() => {
      const x = random(8, [64, 96]);
      const [gate, value] = tf.split(tf.matMul(x, random(9, [96, 128])), 2, 1) as [tf.Tensor, tf.Tensor];
      const normed = tf.mul(value, tf.rsqrt(tf.add(tf.mean(tf.square(value), 1, true), 1e-6)));
      return tf
        .sum(
          tf.mul(
            tf.sigmoid(gate),
            tf.transpose(tf.reshape(normed, [64, 2, 32]), [0, 2, 1]).reshape([64, 64]),
          ),
        )
        .dataSync()[0]!;
    });
  const first = step();
  const { buffersMade } = poolStatistics();
  for (let i = 0; i < 10; i++) t.is(step(), first);
  t.is(poolStatistics().buffersMade, buffersMade);
  t.is(poolStatistics().usedBytes, used);
});

test.serial('the number of threads changes no bit', (t) => {
  const compute = () => {
    const x = random(8, [3000, 70]);
    const y = tf.transpose(tf.mul(tf.sigmoid(x), tf.mean(x, 0)));
    return [y, tf.sum(y, 0), tf.sum(y, 1), tf.softmax(y), tf.sum(y), tf.slice(y, [3, 5], [50, 2900])];
  };
  const results = [1, 3].map((count) => {
    setThreads(count);
    return run('native', compute).map(({ values }) => Buffer.from(values.buffer));
  });
  setThreads(1);
  t.true(results[0]!.every((bytes, i) => bytes.equals(results[1]![i]!)));
});
