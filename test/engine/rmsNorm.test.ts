import { rmsNorm } from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
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

const norm: Operation = ({ x, weight }) => rmsNorm(x!.onTape() as tf.Tensor2D, weight!, 1e-6);

test('the native kernel agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 140 }),
      fc.integer({ min: 5, max: 70 }),
      fc.nat(),
      (rows, width, seed) => {
        const operands = { x: operand(seed, [rows, width], 3), weight: operand(seed + 1, [width]) };
        t.true(
          worstError(runOperation('native', norm, operands), runOperation('cpu', norm, operands)) < 1e-5,
        );
      },
    ),
    { numRuns: 40 },
  );
});

test('the gradient agrees with finite differences in double precision', (t) => {
  const [rows, width] = [3, 21];
  const operands = { x: operand(1, [rows, width]), weight: operand(2, [width]) };
  const expected = finiteDifferences(({ x, weight }) => {
    const y = new Float64Array(rows * width);
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += x![row * width + c]! ** 2;
      const inverse = 1 / Math.sqrt(sum / width + 1e-6);
      for (let c = 0; c < width; c++) y[row * width + c] = x![row * width + c]! * inverse * weight![c]!;
    }
    return y;
  }, operands);
  t.true(worstError(runOperation('native', norm, operands), expected) < 1e-5);
});

test('the number of threads changes no bit', (t) => {
  const operands = { x: operand(5, [700, 40]), weight: operand(6, [40]) };
  t.true(threadsChangeNoBit(norm, operands));
});
