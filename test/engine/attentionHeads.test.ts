import {
  type AttentionHeads,
  type AttentionLayout,
  attentionHeads,
  projectionWidth,
  rotaryEmbedding,
  rotaryTable,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { anyGate, anyHeadDim, documentLengths, layoutOf, withDocuments } from './support/attention.ts';
import {
  finiteDifferences,
  type Operands,
  type Operation,
  operand,
  relativeError,
  runOperation,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';

/** All heads side by side: [N, queries, keys, values, gates]. */
function headsOf(layout: AttentionLayout): Operation {
  const rotary = rotaryTable(layout.sequence, layout.headDim, 10000);
  return ({ projection, qNorm, kNorm }) => {
    const x_NW = projection!.onTape() as tf.Tensor2D;
    const { q, k, v, gate } = attentionHeads(x_NW, qNorm ?? null, kNorm ?? null, rotary, layout);
    return tf.concat(gate ? [q, k, v, gate] : [q, k, v], 1);
  };
}

function operandsOf(layout: AttentionLayout, normed: { q: boolean; k: boolean }, seed = 1): Operands {
  return {
    projection: operand(seed, [layout.batch * layout.sequence, projectionWidth(layout)], 2),
    ...(normed.q && { qNorm: operand(seed + 1, [layout.headDim]) }),
    ...(normed.k && { kNorm: operand(seed + 2, [layout.headDim]) }),
  };
}

const anyShape = fc.tuple(
  fc.integer({ min: 1, max: 2 }),
  fc.integer({ min: 1, max: 40 }),
  fc.integer({ min: 1, max: 3 }),
  fc.integer({ min: 1, max: 3 }),
  anyHeadDim,
);

test('the native kernel agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(
      anyShape,
      anyGate,
      fc.record({ q: fc.boolean(), k: fc.boolean() }),
      fc.nat(),
      fc.boolean(),
      (shape, gate, normed, seed, areSeparate) => {
        const packed = layoutOf(shape, gate);
        const lengths = documentLengths(packed.batch, packed.sequence, seed);
        const layout = areSeparate ? withDocuments(packed, lengths) : packed;
        const operands = operandsOf(layout, normed, seed);
        const [native, reference] = ['native', 'cpu'].map((backend) =>
          runOperation(backend, headsOf(layout), operands),
        );
        const error = worstError(native!, reference!);
        t.true(error < 1e-5, `${JSON.stringify({ layout, normed })}: ${error}`);
      },
    ),
    { numRuns: 40 },
  );
});

test('positions begin anew at each document that is kept apart', (t) => {
  const rotary = rotaryTable(9, 4, 10000);
  const turned = (layout: AttentionLayout, x: tf.Tensor2D) => rotaryEmbedding(x, rotary, layout).dataSync();
  const layout = layoutOf([2, 9, 1, 2, 4], 'none');
  for (const backend of ['native', 'cpu']) {
    tf.setBackend(backend);
    const x = tf.tensor2d(operand(1, [18, 8]).values, [18, 8]);
    const all = turned(withDocuments(layout, [2, 7, 3, 1, 5]), x);
    for (const [begin, length] of [
      [0, 2],
      [2, 7],
      [9, 3],
      [12, 1],
      [13, 5],
    ] as const) {
      const alone = turned({ ...layout, batch: 1, sequence: length }, tf.slice2d(x, [begin, 0], [length, 8]));
      t.deepEqual(all.slice(begin * 8, (begin + length) * 8), alone.slice(), `${backend}, from ${begin} on`);
    }
  }
});

test('queries, gates, keys and values come from the columns of the released checkpoints', (t) => {
  // Two key-value heads with two queries each: G·D queries, then G·D gates for each of them; then keys; then values.
  const layout = layoutOf([1, 1, 2, 2, 2], 'elementwise');
  const columns = tf.tensor2d(
    Float32Array.from({ length: 24 }, (_, column) => column),
    [1, 24],
  );
  const unturned = rotaryTable(1, 2, 10000);
  for (const backend of ['native', 'cpu']) {
    tf.setBackend(backend);
    const heads = attentionHeads(columns, null, null, unturned, layout);
    const read = (name: keyof AttentionHeads) => [...heads[name]!.dataSync()];
    t.deepEqual(read('q'), [0, 1, 2, 3, 8, 9, 10, 11]);
    t.deepEqual(read('gate'), [4, 5, 6, 7, 12, 13, 14, 15]);
    t.deepEqual(read('k'), [16, 17, 18, 19]);
    t.deepEqual(read('v'), [20, 21, 22, 23]);
  }
});

/** The norm and the rotation of one head in double precision. */
function normAndTurn(x: Float64Array, gain: Float64Array, position: number): number[] {
  const half = x.length / 2;
  const inverse = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length + 1e-6);
  const n = x.map((value, c) => value * inverse * gain[c]!);
  return Array.from(n, (value, c) => {
    const angle = position * 10000 ** ((-2 * (c % half)) / x.length);
    const other = c < half ? -n[c + half]! : n[c - half]!;
    return value * Math.cos(angle) + other * Math.sin(angle);
  });
}

test('the gradient agrees with finite differences in double precision', (t) => {
  const layout = layoutOf([2, 3, 1, 2, 6], 'headwise');
  const operands = operandsOf(layout, { q: true, k: true });
  const width = projectionWidth(layout);
  const expected = finiteDifferences(({ projection, qNorm, kNorm }) => {
    const rows = Array.from({ length: 6 }, (_, token) => {
      const row = projection!.subarray(token * width, (token + 1) * width);
      const head = (column: number, gain: Float64Array) =>
        normAndTurn(row.subarray(column, column + 6), gain, token % 3);
      const queries = [...head(0, qNorm!), ...head(6, qNorm!)];
      return [...queries, ...head(14, kNorm!), ...row.subarray(20, 26), ...row.subarray(12, 14)];
    });
    return Float64Array.from(rows.flat());
  }, operands);
  t.true(worstError(runOperation('native', headsOf(layout), operands), expected) < 1e-5);
});

test('the number of threads changes no bit', (t) => {
  const layout = layoutOf([2, 100, 2, 2, 16], 'elementwise');
  const operands = operandsOf(layout, { q: true, k: true });
  t.true(threadsChangeNoBit(headsOf(layout), operands));
});

test('a rotary table holds angles of double precision', (t) => {
  const { cos, sin } = rotaryTable(5000, 8, 10000);
  t.is(cos.length, 5000 * 4);
  t.is(cos[4999 * 4 + 1], Math.fround(Math.cos(4999 * 10000 ** -0.25)));
  t.is(sin[4999 * 4], Math.fround(Math.sin(4999)));
});

test('the rotary embedding alone agrees with its reference, and so does its gradient', (t) => {
  const turn: Operation = ({ x }) =>
    rotaryEmbedding(x!.onTape() as tf.Tensor2D, rotaryTable(9, 10, 10000), {
      batch: 3,
      sequence: 9,
      heads: 2,
      headDim: 10,
    });
  const operands = { x: operand(4, [27, 20]) };
  t.true(worstError(runOperation('native', turn, operands), runOperation('cpu', turn, operands)) < 1e-6);
});

test('scores of rotated heads depend on the distance of their positions alone', (t) => {
  tf.setBackend('native');
  const layout = { batch: 1, sequence: 40, heads: 1, headDim: 8 };
  const same = (seed: number) => tf.tile(tf.tensor2d(operand(seed, [1, 8]).values, [1, 8]), [40, 1]);
  const [q, k] = [same(1), same(2)].map((x) =>
    rotaryEmbedding(x as tf.Tensor2D, rotaryTable(40, 8, 100), layout),
  );
  const scores_TT = tf.matMul(q!, k!, false, true).arraySync() as number[][];
  const near = Array.from({ length: 30 }, (_, i) => scores_TT[i + 7]![i]!);
  const constant = near.map(() => near[0]!);
  t.true(relativeError(near, constant) < 1e-5);
  t.true(Math.abs(scores_TT[7]![0]! - scores_TT[9]![0]!) > 1e-3);
});
