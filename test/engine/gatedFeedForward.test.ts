import { gatedFeedForward, poolStatistics } from '@sluice/engine';
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
import { feedForwardInDoubles } from './support/feedForward.ts';

const layer: Operation = ({ x, gateUp, down }) =>
  gatedFeedForward(x!.onTape() as tf.Tensor2D, gateUp!, down!);

function operandsOf(seed: number, tokens: number, channels: number, units: number, scale = 1) {
  return {
    x: operand(seed, [tokens, channels], scale),
    gateUp: operand(seed + 1, [2 * units, channels]),
    down: operand(seed + 2, [channels, units]),
  };
}

test('the native kernel agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 100, max: 260 })),
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 50 }),
      fc.nat(),
      (tokens, channels, units, seed) => {
        const operands = operandsOf(seed, tokens, channels, units);
        t.true(
          worstError(runOperation('native', layer, operands), runOperation('cpu', layer, operands)) < 1e-5,
        );
      },
    ),
    { numRuns: 40 },
  );
});

test('the gradient agrees with finite differences in double precision', (t) => {
  const [tokens, channels, units] = [3, 5, 9];
  const operands = operandsOf(1, tokens, channels, units);
  const expected = finiteDifferences(
    ({ x, gateUp, down }) => feedForwardInDoubles(x!, gateUp!, down!, channels, units),
    operands,
  );
  t.true(worstError(runOperation('native', layer, operands), expected) < 1e-5);
});

test('large preactivations of either sign saturate without overflow', (t) => {
  const operands = operandsOf(8, 6, 20, 20, 200);
  const outcome = runOperation('native', layer, operands);
  t.true(outcome.output.every(Number.isFinite));
  t.true(worstError(outcome, runOperation('cpu', layer, operands)) < 1e-5);
});

test('a NaN reaches the outputs of its token, and only those', (t) => {
  const operands = operandsOf(9, 40, 8, 20);
  operands.x.values[8 * 11] = Number.NaN;
  const { output } = runOperation('native', layer, operands);
  output.forEach((value, i) => {
    t.is(Number.isNaN(value), Math.floor(i / 8) === 11);
  });
});

test('the number of threads changes no bit', (t) => {
  const operands = operandsOf(5, 700, 24, 40);
  t.true(threadsChangeNoBit(layer, operands, [1, 2, 3, 64]));
});

test('a row has the same bits alone as among others', (t) => {
  const all = operandsOf(5, 200, 24, 40);
  const { output } = runOperation('native', layer, all);
  const one = { ...all, x: { shape: [1, 24], values: all.x.values.slice(24 * 150, 24 * 151) } };
  t.deepEqual(runOperation('native', layer, one).output, output.slice(24 * 150, 24 * 151));
});

test('memory of the pool is given back', (t) => {
  const operands = operandsOf(5, 30, 24, 40);
  runOperation('native', layer, operands);
  const before = poolStatistics();
  runOperation('native', layer, operands);
  const after = poolStatistics();
  t.is(after.usedBytes, before.usedBytes);
  t.is(after.buffersMade, before.buffersMade);
});
