import { addResidual, computeGradients, Parameter, poolStatistics } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { type Operation, operand, randomValues, runOperation, worstError } from './support/differential.ts';

const add: Operation = ({ x, y }) => addResidual(x!.onTape(), y!.onTape());

test('the native kernel agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 70 }),
      fc.integer({ min: 1, max: 70 }),
      fc.nat(),
      (rows, width, seed) => {
        const operands = { x: operand(seed, [rows, width]), y: operand(seed + 1, [rows, width]) };
        const native = runOperation('native', add, operands);
        t.true(worstError(native, runOperation('cpu', add, operands)) === 0);
      },
    ),
    { numRuns: 40 },
  );
});

test.serial('the sum takes the memory of y where nobody else holds it', (t) => {
  tf.setBackend('native');
  const make = (seed: number) =>
    tf.tidy(() => addResidual(tf.tensor1d(randomValues(seed, 9)), tf.zeros([9])));
  const [x, y, z] = [make(1), make(2), make(3)];
  const used = poolStatistics().usedBytes;
  const expected = x.dataSync().map((value, i) => value + y.dataSync()[i]!);
  const sum = addResidual(x, y);
  t.is(poolStatistics().usedBytes, used);
  t.deepEqual(sum.dataSync(), expected);

  const other = z.clone();
  const before = z.dataSync();
  const second = addResidual(x, z);
  t.deepEqual(other.dataSync(), before);
  t.deepEqual(
    second.dataSync(),
    x.dataSync().map((value, i) => value + before[i]!),
  );
  tf.dispose([x, y, z, sum, other, second]);
});

test.serial('a tensor may be added to itself', (t) => {
  tf.setBackend('native');
  const parameter = new Parameter('x', [4], Float32Array.of(1, -2, 3, 4));
  const gradient = new Float32Array(4);
  parameter.sink = () => ({ values: gradient, accumulate: false });
  const loss = computeGradients(() => {
    const x = tf.mul(parameter.onTape(), 1);
    const y = addResidual(x, x);
    t.deepEqual([...x.dataSync()], [1, -2, 3, 4]);
    return tf.sum(y);
  });
  t.is(loss, 12);
  t.deepEqual([...gradient], [2, 2, 2, 2]);
});
