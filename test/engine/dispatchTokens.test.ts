import { combineTokens, dispatchTokens, planDispatch, planOnHost } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import {
  finiteDifferences,
  type Operation,
  operand,
  randomValues,
  runOperation,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';

/** Distinct experts for each token. */
function someIndices(seed: number, tokens: number, topK: number, numExperts: number): Int32Array {
  const order = randomValues(seed, tokens * numExperts);
  const rows = Array.from({ length: tokens }, (_, n) => {
    const keys = order.subarray(n * numExperts, (n + 1) * numExperts);
    const experts = Array.from({ length: numExperts }, (_, e) => e);
    return experts.sort((a, b) => keys[a]! - keys[b]!).slice(0, topK);
  });
  return Int32Array.from(rows.flat());
}

/** A plan for experts of each token. */
function planFor(indices: Int32Array, topK: number, numExperts: number) {
  return planDispatch(tf.tensor2d(indices, [indices.length / topK, topK], 'int32'), numExperts);
}

const shapes = fc.record({
  tokens: fc.integer({ min: 1, max: 40 }),
  width: fc.integer({ min: 1, max: 50 }),
  numExperts: fc.integer({ min: 1, max: 12 }),
  seed: fc.nat(10_000),
});

test('a plan sorts the slots by expert, keeps their order within one, and can be undone', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 4 }),
      fc.array(fc.nat(8)),
      (numExperts, topK, raw) => {
        const indices = Int32Array.from(
          raw.slice(0, raw.length - (raw.length % topK)),
          (e) => e % numExperts,
        );
        const [order, position, counts] = planOnHost(indices, numExperts);
        const slots = Array.from(indices, (_, slot) => slot);
        const expected = slots.sort((a, b) => indices[a]! - indices[b]! || a - b);
        t.true(order.every((slot, row) => slot === expected[row]));
        t.true(order.every((slot, row) => position[slot] === row));
        t.true(counts.every((count, expert) => count === indices.filter((i) => i === expert).length));
      },
    ),
  );
});

test('a plan refuses an expert that does not exist', (t) => {
  t.throws(() => planOnHost(Int32Array.of(0, 3), 3), { message: /expert 3 is not below 3/ });
  t.throws(() => planOnHost(Int32Array.of(-1), 3), { message: /expert -1/ });
});

test('dispatching agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(shapes, ({ tokens, width, numExperts, seed }) => {
      const topK = 1 + (seed % Math.min(4, numExperts));
      const plan = planFor(someIndices(seed, tokens, topK, numExperts), topK, numExperts);
      const operation: Operation = ({ x }) => dispatchTokens(x!.onTape() as tf.Tensor2D, plan);
      const operands = { x: operand(seed, [tokens, width]) };
      const native = runOperation('native', operation, operands);
      t.true(worstError(native, runOperation('cpu', operation, operands)) < 1e-6);
    }),
    { numRuns: 25 },
  );
});

test('combining agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(shapes, ({ tokens, width, numExperts, seed }) => {
      const topK = 1 + (seed % Math.min(4, numExperts));
      const plan = planFor(someIndices(seed, tokens, topK, numExperts), topK, numExperts);
      const operation: Operation = ({ y, weights }) =>
        combineTokens(y!.onTape() as tf.Tensor2D, weights!.onTape() as tf.Tensor2D, plan);
      const operands = {
        y: operand(seed, [tokens * topK, width]),
        weights: operand(seed + 1, [tokens, topK]),
      };
      const native = runOperation('native', operation, operands);
      t.true(worstError(native, runOperation('cpu', operation, operands)) < 1e-5);
    }),
    { numRuns: 25 },
  );
});

test('no token at all is fine', (t) => {
  const plan = planFor(new Int32Array(0), 2, 5);
  const operation: Operation = ({ x, weights }) =>
    combineTokens(dispatchTokens(x!.onTape() as tf.Tensor2D, plan), weights!.onTape() as tf.Tensor2D, plan);
  const { output } = runOperation('native', operation, {
    x: operand(1, [0, 7]),
    weights: operand(1, [0, 2]),
  });
  t.is(output.length, 0);
});

test('the gradients agree with finite differences', (t) => {
  const [tokens, topK, width] = [4, 2, 19];
  const plan = planFor(someIndices(3, tokens, topK, 5), topK, 5);
  const operands = { x: operand(1, [tokens, width]), weights: operand(2, [tokens, topK]) };
  // Squared on the way, so that combining sees other values than dispatching.
  const operation: Operation = ({ x, weights }) => {
    const rows = dispatchTokens(x!.onTape() as tf.Tensor2D, plan);
    return combineTokens(tf.square(rows), weights!.onTape() as tf.Tensor2D, plan);
  };
  const expected = finiteDifferences(({ x, weights }) => {
    const out = new Float64Array(tokens * width);
    for (let n = 0; n < tokens; n++) {
      for (let k = 0; k < topK; k++) {
        for (let c = 0; c < width; c++) {
          out[n * width + c]! += weights![n * topK + k]! * x![n * width + c]! ** 2;
        }
      }
    }
    return out;
  }, operands);
  t.true(worstError(runOperation('native', operation, operands), expected) < 1e-5);
});

test('combining what was dispatched, with weights that sum to 1, gives the tokens back', (t) => {
  tf.setBackend('native');
  const plan = planFor(someIndices(9, 33, 4, 8), 4, 8);
  tf.tidy(() => {
    const x = tf.tensor2d(randomValues(4, 33 * 21), [33, 21]);
    const back = combineTokens(dispatchTokens(x, plan), tf.fill([33, 4], 0.25), plan);
    t.deepEqual(back.dataSync(), x.dataSync());
  });
});

test('the number of threads changes no bit', (t) => {
  const plan = planFor(someIndices(3, 400, 2, 5), 2, 5);
  const operands = { x: operand(1, [400, 21]), weights: operand(2, [400, 2]) };
  const operation: Operation = ({ x, weights }) =>
    combineTokens(dispatchTokens(x!.onTape() as tf.Tensor2D, plan), weights!.onTape() as tf.Tensor2D, plan);
  t.true(threadsChangeNoBit(operation, operands));
});
