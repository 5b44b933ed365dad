import { matrixProduct, measureSgemmPeak, type ProductSizes, setThreads, threads } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { randomValues, relativeError } from './support/differential.ts';

interface Product extends Required<ProductSizes> {
  readonly a: Float32Array;
  readonly b: Float32Array;
  readonly c: Float32Array;
}

/** Random operands whose rows lie `gap` elements further apart than they are long. */
function product(sizes: ProductSizes & { gap?: number }, seed: number): Product {
  const { rows, columns, depth, transposeA = false, transposeB = false, beta = 0, gap = 0 } = sizes;
  const aStride = (transposeA ? rows : depth) + gap;
  const bStride = (transposeB ? depth : columns) + gap;
  const cStride = columns + gap;
  const a = randomValues(seed, aStride * (transposeA ? depth : rows));
  const b = randomValues(seed + 1, bStride * (transposeB ? columns : depth));
  const c = randomValues(seed + 2, cStride * rows);
  return { a, b, c, rows, columns, depth, transposeA, transposeB, beta, aStride, bStride, cStride };
}

/** The product in double precision, and for each element the sum of the magnitudes that were added. */
function inDoubles(p: Product): { values: Float64Array; magnitudes: Float64Array } {
  const values = Float64Array.from(p.c);
  const magnitudes = new Float64Array(p.c.length);
  for (let i = 0; i < p.rows; i++) {
    for (let j = 0; j < p.columns; j++) {
      const at = i * p.cStride + j;
      let sum = p.beta === 0 ? 0 : p.beta * p.c[at]!;
      let magnitude = Math.abs(sum);
      for (let k = 0; k < p.depth; k++) {
        const x = p.a[p.transposeA ? k * p.aStride + i : i * p.aStride + k]!;
        const y = p.b[p.transposeB ? j * p.bStride + k : k * p.bStride + j]!;
        sum += x * y;
        magnitude += Math.abs(x * y);
      }
      values[at] = sum;
      magnitudes[at] = magnitude;
    }
  }
  return { values, magnitudes };
}

const anySize = fc.oneof(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 90 }));
const anySizes = fc.record({
  rows: anySize,
  columns: anySize,
  depth: fc.oneof(anySize, fc.integer({ min: 370, max: 800 })),
  transposeA: fc.boolean(),
  transposeB: fc.boolean(),
  beta: fc.constantFrom(0, 1, -0.5),
  gap: fc.constantFrom(0, 3),
});

test('a product is right to single precision for all shapes, transposes, strides and betas', (t) => {
  fc.assert(
    fc.property(anySizes, fc.nat(), (sizes, seed) => {
      const p = product(sizes, seed);
      const { values, magnitudes } = inDoubles(p);
      matrixProduct(p.a, p.b, p.c, p);
      // Rounding at random grows with the root of the number of terms; a lost term would be far above.
      const bound = 2 ** -24 * (2 + Math.sqrt(p.depth));
      for (let i = 0; i < values.length; i++) {
        if (Math.abs(p.c[i]! - values[i]!) > bound * magnitudes[i]!) t.fail(`element ${i} of ${p.c.length}`);
      }
    }),
    { numRuns: 150 },
  );
  t.pass();
});

test('nothing is written between the rows of the result', (t) => {
  const p = product({ rows: 19, columns: 37, depth: 8, gap: 5 }, 7);
  const before = p.c.slice();
  matrixProduct(p.a, p.b, p.c, p);
  for (let row = 0; row < 18; row++) {
    const gap = [row * p.cStride + 37, (row + 1) * p.cStride] as const;
    t.deepEqual(p.c.slice(...gap), before.slice(...gap));
  }
});

test('a result that held NaN is overwritten when beta is 0', (t) => {
  const p = product({ rows: 15, columns: 33, depth: 4 }, 3);
  p.c.fill(Number.NaN);
  matrixProduct(p.a, p.b, p.c, p);
  t.false(p.c.some(Number.isNaN));
});

test('the bits of a row do not depend on the other rows, nor on the number of threads', (t) => {
  const p = product({ rows: 300, columns: 70, depth: 500, transposeB: true }, 11);
  matrixProduct(p.a, p.b, p.c, p);
  for (const [first, rows, workers] of [
    [0, 300, 3],
    [0, 300, 40],
    [17, 1, 1],
    [17, 1, 2],
    [40, 58, 2],
    [200, 100, 1],
  ] as const) {
    setThreads(workers);
    const part = new Float32Array(rows * p.columns);
    matrixProduct(p.a.subarray(first * p.depth), p.b, part, { ...p, rows });
    t.deepEqual(part, p.c.slice(first * p.columns, (first + rows) * p.columns), `${rows} rows from ${first}`);
  }
  setThreads(1);
});

test('a product over nothing is zero, or what was there times beta', (t) => {
  const c = Float32Array.of(2, 4);
  matrixProduct(new Float32Array(), new Float32Array(), c, { rows: 1, columns: 2, depth: 0, beta: 0.5 });
  t.deepEqual([...c], [1, 2]);
  matrixProduct(new Float32Array(), new Float32Array(), c, { rows: 1, columns: 2, depth: 0 });
  t.deepEqual([...c], [0, 0]);
});

test('an operand that is too short is refused', (t) => {
  const sizes = { rows: 4, columns: 4, depth: 4 };
  t.throws(() => matrixProduct(new Float32Array(15), new Float32Array(16), new Float32Array(16), sizes), {
    message: /argument 0 has 15 elements, but 16 are needed/,
  });
});

test('the speed of a product is measured with the threads in force', (t) => {
  setThreads(2);
  const gflops = measureSgemmPeak(1);
  t.true(gflops > 0 && Number.isFinite(gflops));
  t.is(threads(), 2);
  setThreads(1);
});

const anyBatch = fc.constantFrom<[number[], number[]]>(
  [[], []],
  [[3], [3]],
  [
    [2, 3],
    [2, 3],
  ],
  [[5], []],
  [[], [4]],
  [[1], [4]],
);

test("TensorFlow.js's matrix products agree between our kernel and the stock one", (t) => {
  const run = (backend: string, call: () => tf.Tensor) => {
    tf.setBackend(backend);
    return tf.tidy(() => {
      const y = call();
      return { shape: y.shape, values: y.dataSync() as Float32Array };
    });
  };
  fc.assert(
    fc.property(
      anyBatch,
      fc.tuple(anySize, anySize, anySize),
      fc.boolean(),
      fc.boolean(),
      ([batchA, batchB], [rows, columns, depth], transposeA, transposeB) => {
        const a = [...batchA, ...(transposeA ? [depth, rows] : [rows, depth])];
        const b = [...batchB, ...(transposeB ? [columns, depth] : [depth, columns])];
        const operand = (shape: number[], seed: number) =>
          tf.tensor(randomValues(seed, tf.util.sizeFromShape(shape)), shape);
        for (const call of [
          () => tf.matMul(operand(a, 1), operand(b, 2), transposeA, transposeB),
          () => tf.fused.matMul({ a: operand(a, 1), b: operand(b, 2), transposeA, transposeB }),
        ]) {
          const [ours, stock] = [run('native', call), run('cpu', call)];
          t.deepEqual(ours.shape, stock.shape);
          t.true(relativeError(ours.values, stock.values) < 1e-5);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test('products with other types, biases and activations fall back to the stock kernel', (t) => {
  const run = (backend: string) => {
    tf.setBackend(backend);
    return tf.tidy(() => {
      const [a, b] = [tf.tensor2d([[1, -2]]), tf.tensor2d([[3], [4]])];
      const fused = tf.fused.matMul({ a, b, bias: tf.tensor1d([1]), activation: 'relu' });
      const integers = tf.matMul(tf.cast(a, 'int32'), tf.cast(b, 'int32'));
      return [fused.dataSync()[0], integers.dataSync()[0], integers.dtype];
    });
  };
  t.deepEqual(run('native'), run('cpu'));
  t.deepEqual(run('native').slice(0, 2), [0, -5]);
});
