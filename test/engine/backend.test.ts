import { addResidual, nativeBackend, poolStatistics } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { randomValues } from './support/differential.ts';

test.beforeEach(() => {
  tf.setBackend('native');
});

/** A tensor in the pool's memory. */
function pooled(values: ArrayLike<number>, shape: number[]): tf.Tensor {
  return tf.tidy(() => addResidual(tf.tensor(Float32Array.from(values), shape), tf.zeros(shape)));
}

test.serial('what TensorFlow.js cuts out of a pooled tensor outlives it', (t) => {
  const x = pooled([1, 2, 3, 4, 5, 6], [3, 2]);
  const row = tf.slice(x, [1, 0], [1, 2]);
  const parts = tf.split(x, 3);
  const reshaped = tf.reshape(x, [6]);
  x.dispose();
  reshaped.dispose();
  const overwritten = [9, 8, 7, 6].map((value) => pooled(Array(6).fill(value), [6]));
  t.deepEqual([...row.dataSync()], [3, 4]);
  t.deepEqual([...parts[2]!.dataSync()], [5, 6]);
  tf.dispose([row, ...parts, ...overwritten]);
});

test.serial('pooled memory is given back with the last tensor that shares it', (t) => {
  const used = poolStatistics().usedBytes;
  const x = pooled([1, 2, 3, 4], [4]);
  const [copy, matrix, same] = [x.clone(), tf.reshape(x, [2, 2]), tf.cast(x, 'float32')];
  const whileLent = poolStatistics().usedBytes;
  t.true(whileLent > used);
  tf.dispose([x, copy, same]);
  t.is(poolStatistics().usedBytes, whileLent);
  t.deepEqual([...matrix.dataSync()], [1, 2, 3, 4]);
  matrix.dispose();
  t.is(poolStatistics().usedBytes, used);
});

test.serial('values that were read are the reader’s', async (t) => {
  const x = pooled([1, 2, 3], [3]);
  const [now, later] = [x.dataSync(), await x.data()];
  now.fill(0);
  t.deepEqual([...x.dataSync()], [1, 2, 3]);
  t.deepEqual([...later], [1, 2, 3]);
  t.deepEqual(await x.array(), [1, 2, 3]);
  x.dispose();
});

test.serial('our kernels take tensors that were cast without a copy', (t) => {
  const used = poolStatistics().usedBytes;
  tf.tidy(() => {
    const ones = tf.cast(tf.tensor1d([1, 0, 1], 'bool'), 'float32');
    const whole = tf.cast(tf.tensor1d([5, 6, 7], 'int32'), 'float32');
    t.deepEqual([...addResidual(ones, whole).dataSync()], [6, 6, 8]);
  });
  t.is(poolStatistics().usedBytes, used);
});

test.serial('a tensor keeps its values when it moves between backends', (t) => {
  const used = poolStatistics().usedBytes;
  const x = pooled(randomValues(1, 10), [10]);
  const before = x.dataSync();
  tf.setBackend('cpu');
  const onCpu = tf.add(x, 0);
  tf.setBackend('native');
  t.is(poolStatistics().usedBytes, used);
  const back = addResidual(onCpu, tf.zeros([10]));
  t.deepEqual(onCpu.dataSync(), before);
  t.deepEqual(back.dataSync(), before);
  tf.dispose([x, onCpu, back]);
});

test.serial('tensors without elements are fine', (t) => {
  const x = pooled([], [0, 3]);
  t.is(addResidual(x, x).dataSync().length, 0);
  t.deepEqual(tf.concat([x, tf.ones([1, 3])]).shape, [1, 3]);
  x.dispose();
});

test.serial('data that is stored and disposed is counted', (t) => {
  const before = nativeBackend().numDataIds();
  const x = pooled([1], [1]);
  t.is(nativeBackend().numDataIds(), before + 1);
  x.dispose();
  t.is(nativeBackend().numDataIds(), before);
});
