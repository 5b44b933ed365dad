import { linear, Parameter } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import {
  finiteDifferences,
  type Operation,
  operand,
  runOperation,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';

const layer: Operation = ({ x, weight }) => linear(x!.onTape() as tf.Tensor2D, weight!);
const twice: Operation = ({ x, weight }) => {
  const activations = x!.onTape() as tf.Tensor2D;
  return tf.add(linear(activations, weight!), linear(tf.mul(activations, 2), weight!));
};

test('the native kernel agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 90 }),
      fc.integer({ min: 1, max: 70 }),
      fc.integer({ min: 1, max: 70 }),
      fc.nat(),
      (tokens, inputs, outputs, seed) => {
        const operands = { x: operand(seed, [tokens, inputs]), weight: operand(seed + 1, [outputs, inputs]) };
        t.true(
          worstError(runOperation('native', layer, operands), runOperation('cpu', layer, operands)) < 1e-5,
        );
      },
    ),
    { numRuns: 40 },
  );
});

test('the gradient agrees with finite differences in double precision', (t) => {
  const [tokens, inputs, outputs] = [3, 7, 5];
  const operands = { x: operand(1, [tokens, inputs]), weight: operand(2, [outputs, inputs]) };
  const expected = finiteDifferences(({ x, weight }) => {
    const y = new Float64Array(tokens * outputs);
    for (let n = 0; n < tokens; n++) {
      for (let o = 0; o < outputs; o++) {
        for (let c = 0; c < inputs; c++)
          y[n * outputs + o]! += x![n * inputs + c]! * weight![o * inputs + c]!;
      }
    }
    return y;
  }, operands);
  t.true(worstError(runOperation('native', layer, operands), expected) < 1e-5);
});

test('contributions of several uses of a weight add up', (t) => {
  const operands = { x: operand(3, [20, 9]), weight: operand(4, [31, 9]) };
  t.true(worstError(runOperation('native', twice, operands), runOperation('cpu', twice, operands)) < 1e-5);
});

test('the number of threads changes no bit', (t) => {
  const operands = { x: operand(5, [700, 40]), weight: operand(6, [90, 40]) };
  t.true(threadsChangeNoBit(layer, operands));
});

test('without recording only the output is computed', (t) => {
  tf.setBackend('native');
  const weight = new Parameter('weight', [2, 2], Float32Array.of(1, 2, 3, 4));
  weight.sink = () => t.fail('no gradient is due') as never;
  t.deepEqual([...linear(tf.tensor2d([[1, 1]]), weight).dataSync()], [3, 7]);
});
