import { BLOCK_ELEMENTS } from '@sluice/core';
import { Muon, type MuonSettings, muonScratchElements, orthogonalize, setThreads } from '@sluice/engine';
import test from 'ava';
import fc from 'fast-check';
import { randomValues, relativeError } from './support/differential.ts';

const SETTINGS = {
  learningRate: 0.02,
  momentumDecay: 0.95,
  iterations: 5,
  weightDecay: 0.1,
  gradientScale: 0.7,
};

/** C = op(A)·B of plain numbers. */
function times(a: readonly number[][], b: readonly number[][]): number[][] {
  return a.map((row) => b[0]!.map((_, j) => row.reduce((sum, x, k) => sum + x * b[k]![j]!, 0)));
}

const transposed = (a: readonly number[][]) => a[0]!.map((_, j) => a.map((row) => row[j]!));

const matrixOf = (values: ArrayLike<number>, columns: number) =>
  Array.from({ length: values.length / columns }, (_, i) =>
    Array.from({ length: columns }, (_, j) => values[i * columns + j]!),
  );

/** `zeropower_via_newtonschulz5` of https://github.com/KellerJordan/Muon, in double precision. */
function reference(gradient: readonly number[][], iterations: number): number[][] {
  const isTall = gradient.length > gradient[0]!.length;
  let x = isTall ? transposed(gradient) : gradient.map((row) => [...row]);
  const norm = Math.sqrt(x.flat().reduce((sum, value) => sum + value ** 2, 0));
  x = x.map((row) => row.map((value) => value / (norm + 1e-7)));
  for (let i = 0; i < iterations; i++) {
    const a = times(x, transposed(x));
    const squared = times(a, a);
    const b = a.map((row, r) => row.map((value, c) => -4.775 * value + 2.0315 * squared[r]![c]!));
    const moved = times(b, x);
    x = x.map((row, r) => row.map((value, c) => 3.4445 * value + moved[r]![c]!));
  }
  return isTall ? transposed(x) : x;
}

const anySide = fc.integer({ min: 1, max: 40 });

test('orthogonalization is the published iteration, for wide and for tall matrices', (t) => {
  fc.assert(
    fc.property(
      anySide,
      anySide,
      fc.integer({ min: 1, max: 6 }),
      fc.nat(),
      (rows, columns, iterations, seed) => {
        const gradient = randomValues(seed, rows * columns, 3);
        const expected = reference(matrixOf(gradient, columns), iterations).flat();
        const scratch = new Float32Array(rows * columns + 3 * Math.min(rows, columns) ** 2);
        const result = orthogonalize(gradient.slice(), rows, columns, iterations, scratch);
        t.true(relativeError(result, expected) < 2e-5, `${rows} × ${columns}`);
      },
    ),
    { numRuns: 60 },
  );
});

test('five iterations bring the singular values of random matrices near 1', (t) => {
  const [rows, columns] = [24, 60];
  const scratch = new Float32Array(rows * columns + 3 * rows ** 2);
  const x = matrixOf(orthogonalize(randomValues(5, rows * columns), rows, columns, 5, scratch), columns);
  // The trace of XXᵀ is the sum of the squares of the singular values.
  const trace = times(x, transposed(x)).reduce((sum, row, i) => sum + row[i]!, 0);
  t.true(trace / rows > 0.7 ** 2 && trace / rows < 1.2 ** 2, `mean square ${trace / rows}`);
});

interface Matrix {
  readonly parameters: Float32Array;
  readonly momentum: Float32Array;
}

function update(matrix: Matrix, gradients: Float32Array, settings: MuonSettings): Float64Array {
  const sums = new Float64Array(2 * Math.ceil(gradients.length / BLOCK_ELEMENTS));
  new Muon(muonScratchElements([settings])).update({ ...matrix, gradients }, settings, sums);
  return sums;
}

const newMatrix = (length: number): Matrix => ({
  parameters: randomValues(1, length),
  momentum: new Float32Array(length),
});

for (const [rows, columns] of [
  [7, 19],
  [33, 12],
  [1, 9],
] as const) {
  test(`updates of ${rows} × ${columns} agree with the formulas in double precision`, (t) => {
    const matrix = newMatrix(rows * columns);
    let weights = [...matrix.parameters];
    let momentum = weights.map(() => 0);
    let sums = new Float64Array();
    let [moved, before] = [0, 0];
    for (let step = 0; step < 6; step++) {
      const gradients = randomValues(10 + step, rows * columns, 3);
      const scaled = Array.from(gradients, (g) => g * SETTINGS.gradientScale);
      momentum = momentum.map((m, i) => 0.95 * m + 0.05 * scaled[i]!);
      const direction = scaled.map((g, i) => 0.05 * g + 0.95 * momentum[i]!);
      const orthogonal = reference(matrixOf(direction, columns), SETTINGS.iterations).flat();
      const rate = SETTINGS.learningRate * 0.2 * Math.sqrt(Math.max(rows, columns));
      const moves = weights.map((w, i) => -rate * orthogonal[i]! - SETTINGS.learningRate * 0.1 * w);
      moved = moves.reduce((sum, move) => sum + move ** 2, 0);
      before = weights.reduce((sum, w) => sum + w ** 2, 0);
      weights = weights.map((w, i) => w + moves[i]!);
      sums = new Float64Array(update(matrix, gradients, { ...SETTINGS, rows, columns }));
    }
    t.true(relativeError(matrix.parameters, weights) < 1e-5);
    t.true(relativeError(matrix.momentum, momentum) < 1e-5);
    t.true(Math.abs(sums[0]! / moved - 1) < 1e-4 && Math.abs(sums[1]! / before - 1) < 1e-4);
  });
}

test('an update is as large as AdamW’s: its root mean square is a fifth of the rate', (t) => {
  const [rows, columns] = [48, 96];
  const matrix = newMatrix(rows * columns);
  const before = matrix.parameters.slice();
  update(matrix, randomValues(2, rows * columns), { ...SETTINGS, weightDecay: 0, rows, columns });
  const squares = matrix.parameters.reduce((sum, value, i) => sum + (value - before[i]!) ** 2, 0);
  const rms = Math.sqrt(squares / before.length) / SETTINGS.learningRate;
  t.true(rms > 0.2 * 0.7 && rms < 0.2 * 1.2, `${rms}`);
});

test('a matrix that nothing reached only decays', (t) => {
  const matrix = newMatrix(60);
  const expected = matrix.parameters.map((value) => value * (1 - 0.02 * 0.1));
  update(matrix, new Float32Array(60), { ...SETTINGS, rows: 6, columns: 10 });
  t.true(relativeError(matrix.parameters, expected) < 1e-7);
});

test('neither threads nor what was updated before in the same memory change a bit', (t) => {
  const sizes = [
    { rows: 70, columns: 150 },
    { rows: 131, columns: 64 },
  ] as const;
  const results = [1, 3].map((count) => {
    setThreads(count);
    const alone = sizes.map(({ rows, columns }) => {
      const matrix = newMatrix(rows * columns);
      const sums = update(matrix, randomValues(3, rows * columns), { ...SETTINGS, rows, columns });
      return [matrix.parameters, matrix.momentum, sums];
    });
    const muon = new Muon(muonScratchElements(sizes));
    const together = sizes.toReversed().map(({ rows, columns }) => {
      const matrix = newMatrix(rows * columns);
      const sums = new Float64Array(2 * Math.ceil((rows * columns) / BLOCK_ELEMENTS));
      const gradients = randomValues(3, rows * columns);
      muon.update({ ...matrix, gradients }, { ...SETTINGS, rows, columns }, sums);
      return [matrix.parameters, matrix.momentum, sums];
    });
    t.deepEqual(together.toReversed(), alone);
    return alone;
  });
  setThreads(1);
  t.deepEqual(results[0], results[1]);
});

test('buffers of other lengths than the matrix’s are refused', (t) => {
  t.throws(() => update(newMatrix(12), new Float32Array(11), { ...SETTINGS, rows: 3, columns: 4 }), {
    message: /11 values for a matrix of 3 × 4/,
  });
});
