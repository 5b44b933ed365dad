import {
  benchKernels,
  computeGradients,
  KERNEL_CASES,
  linear,
  nativeCore,
  Parameter,
  profile,
  rmsNorm,
  selectBackend,
  timeOf,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { randomValues } from './support/differential.ts';

test.before(() => selectBackend('native'));

const WEIGHT = new Parameter('w', [8, 8], randomValues(1, 64));
const NORM = new Parameter('n', [8], randomValues(2, 8));

function step(): number {
  const x = tf.tensor2d(randomValues(3, 32), [4, 8]);
  const loss = computeGradients(() => tf.sum(tf.abs(linear(rmsNorm(x, NORM, 1e-6), WEIGHT))) as tf.Scalar);
  x.dispose();
  return loss;
}

/** A clock that goes on by one at each look. */
function countingClock() {
  let now = 0;
  return () => now++;
}

test.serial('what a profile tells adds up, each moment counted once', async (t) => {
  step(); // The first one also takes memory from the core.
  const spans: { name: string; start: number; end: number }[] = [];
  const { entries, totalMs } = await profile(
    () => void step(),
    countingClock(),
    ({ name }, start, end) => spans.push({ name, start, end }),
  );
  const told = entries.reduce((sum, entry) => sum + timeOf(entry), 0);
  t.true(told > 0 && told <= totalMs);
  const find = (name: string, pass: string) => entries.find((e) => e.name === name && e.pass === pass);
  // With such a clock a kernel with one call of the core takes 1 inside of it and 2 around it.
  t.like(find('SluiceLinear', 'forward'), { calls: 1, kernelMs: 1, javascriptMs: 2 });
  t.like(find('SluiceLinear', 'backward'), { calls: 1, kernelMs: 2, javascriptMs: 3 });
  t.like(find('SluiceRmsNorm', 'backward'), { calls: 1, kernelMs: 1 });
  t.like(find('Abs', 'forward'), { calls: 1, kernelMs: 0, javascriptMs: 1 });
  t.is(
    spans.reduce((sum, { start, end }) => sum + end - start, 0),
    told,
  );
  for (const [i, { start }] of spans.entries()) if (i > 0) t.true(start >= spans[i - 1]!.end);
  for (const [i, entry] of entries.entries()) if (i > 0) t.true(timeOf(entry) <= timeOf(entries[i - 1]!));
});

test.serial('profiling changes no result, and leaves kernels, gradients and core as they were', async (t) => {
  const before = {
    core: nativeCore(),
    kernel: tf.getKernel('SluiceLinear', 'native').kernelFunc,
    gradient: tf.getGradient('SluiceLinear').gradFunc,
  };
  const plain = step();
  let profiled = Number.NaN;
  await profile(async () => {
    profiled = step();
    t.not(nativeCore(), before.core);
    await t.throwsAsync(
      profile(() => {}),
      { message: /do not nest/ },
    );
  });
  t.is(profiled, plain);
  await t.throwsAsync(
    profile(() => {
      throw new Error('halfway');
    }),
    { message: 'halfway' },
  );
  t.is(nativeCore(), before.core);
  t.is(tf.getKernel('SluiceLinear', 'native').kernelFunc, before.kernel);
  t.is(tf.getGradient('SluiceLinear').gradFunc, before.gradient);
});

test.serial(
  'the table of kernels has a rate and a share for each, by the limit that concerns it',
  async (t) => {
    const bench = await benchKernels({ threads: 1, filter: '4096 × 256', repetitions: 1 });
    const names = Object.keys(KERNEL_CASES).filter((name) => name.includes('4096 × 256'));
    t.deepEqual(
      bench.kernels.map(({ name }) => name),
      names,
    );
    t.true(names.length >= 3 && bench.sgemmPeakGflops > 0 && bench.copyGBps > 0);
    for (const { ms, gflops, gigabytesPerSecond, share } of bench.kernels) {
      t.true(ms > 0);
      t.not(gflops === undefined, gigabytesPerSecond === undefined);
      const limit = gflops === undefined ? bench.copyGBps : bench.sgemmPeakGflops;
      t.true(Math.abs(share - (gflops ?? gigabytesPerSecond!) / limit) < 1e-9);
    }
  },
);
