import { embedding } from '@sluice/engine';
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

const lookup = (ids: Int32Array): Operation => {
  return ({ weight }) => embedding(ids, weight!);
};

function someIds(seed: number, count: number, vocabulary: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => Math.imul(seed + i, 2654435761) >>> 1).map(
    (id) => id % vocabulary,
  );
}

test('the native kernel agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 90 }),
      fc.integer({ min: 0, max: 80 }),
      fc.nat(1000),
      (vocabulary, width, count, seed) => {
        const operation = lookup(someIds(seed, count, vocabulary));
        const operands = { weight: operand(seed, [vocabulary, width]) };
        const native = runOperation('native', operation, operands);
        t.true(worstError(native, runOperation('cpu', operation, operands)) < 1e-5);
      },
    ),
    { numRuns: 40 },
  );
});

test('a row’s gradient is the sum over its tokens', (t) => {
  const ids = Int32Array.of(2, 0, 2, 2, 4);
  const operands = { weight: operand(3, [5, 7]) };
  const expected = finiteDifferences(
    ({ weight }) =>
      Float64Array.from({ length: 5 * 7 }, (_, i) => weight![ids[Math.floor(i / 7)]! * 7 + (i % 7)]!),
    operands,
  );
  const actual = runOperation('native', lookup(ids), operands);
  t.true(worstError(actual, expected) < 1e-5);
  t.true(actual.gradients.weight!.subarray(7, 14).every((value) => value === 0));
});

test('the number of threads changes no bit', (t) => {
  const operands = { weight: operand(5, [40, 300]) };
  const operation = lookup(someIds(1, 500, 40));
  t.true(threadsChangeNoBit(operation, operands));
});

test('a token outside of the vocabulary is refused', (t) => {
  const operands = { weight: operand(5, [40, 8]) };
  for (const id of [40, -1]) {
    t.throws(() => runOperation('native', lookup(Int32Array.of(3, id)), operands), {
      message: new RegExp(`token ${id} at position 1 is not among the 40`),
    });
  }
});
