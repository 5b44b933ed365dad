/** The engine where the C++ core was not built: the same interface on TensorFlow.js's plain backend. */

import test from 'ava';

process.env.SLUICE_NATIVE = 'off';
const engine = await import('@sluice/engine');
const tf = await import('@tensorflow/tfjs');

test('the report says which backend will run, and why', async (t) => {
  const report = engine.engineReport();
  t.is(report.backend, 'cpu');
  t.deepEqual(report.native, { loaded: false, reason: 'SLUICE_NATIVE=off is set' });
  t.is(report.vectorWidth, 0);
  t.is(report.simd, 'none');
  t.false(report.openmp);
  t.is(await engine.selectBackend('native'), 'cpu');
  t.is(engine.arithmetic(), 'cpu');
});

test('there are no threads and no pool', (t) => {
  engine.setThreads(4);
  t.is(engine.threads(), 1);
  t.is(engine.poolStatistics().allocatedBytes, 0);
  t.is(engine.measureSgemmPeak(), Number.NaN);
});

test('operations run by their references, gradients included', async (t) => {
  await engine.selectBackend('native');
  const weight = new engine.Parameter('weight', [3, 2], Float32Array.of(1, 2, 3, 4, 5, 6));
  const gradient = new Float32Array(6);
  weight.sink = () => ({ values: gradient, accumulate: false });
  const loss = engine.computeGradients(
    () => tf.sum(engine.embedding(Int32Array.of(2, 0, 2), weight)) as import('@tensorflow/tfjs').Scalar,
  );
  t.is(loss, 25);
  t.deepEqual([...gradient], [1, 1, 0, 0, 2, 2]);
});

test('the optimizer and the sums have plain versions', (t) => {
  const [parameters, firstMoment, secondMoment] = [
    Float32Array.of(1, -1),
    new Float32Array(2),
    new Float32Array(2),
  ];
  const gradients = Float32Array.of(0.5, -0.25);
  const settings = {
    learningRate: 0.1,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 0,
    weightDecay: 0,
    step: 1,
    gradientScale: 1,
  };
  const moved = new Float64Array(2);
  engine.adamW({ parameters, gradients, firstMoment, secondMoment }, settings, moved);
  t.true(Math.abs(moved[0]! - 0.02) < 1e-6 && moved[1] === 2);
  t.true(Math.abs(parameters[0]! - 0.9) < 1e-6 && Math.abs(parameters[1]! + 0.9) < 1e-6);
  const matrix = { parameters: Float32Array.of(1, -1), momentum: new Float32Array(2), gradients };
  const muon = new engine.Muon(engine.muonScratchElements([{ rows: 1, columns: 2 }]));
  const sums = new Float64Array(2);
  const sizes = { rows: 1, columns: 2, iterations: 5, momentumDecay: 0.9 };
  muon.update(matrix, { ...sizes, learningRate: 0.1, weightDecay: 0, gradientScale: 1 }, sums);
  t.true(matrix.parameters[0]! < 0.99 && matrix.parameters[1]! > -1 && sums[1] === 2);
  t.true(Math.abs(matrix.momentum[0]! - 0.05) < 1e-7);
  t.deepEqual([...engine.squaredNorms(Float32Array.of(3, 4, 1), 2)], [25, 1]);
  const sum = new Int32Array(2);
  engine.sumTree(sum, [Int32Array.of(1, 2), Int32Array.of(10, 20), Int32Array.of(100, 2 ** 31 - 1)]);
  t.deepEqual([...sum], [111, (22 + 2 ** 31 - 1) | 0]);
});
