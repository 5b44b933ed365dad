/** The outer optimizer of replicas that train apart, and how their differences are summed. */

import { type Group, soloGroup } from '@sluice/collectives';
import { combineReplicas, type StepResult, SynchronizeConfig } from '@sluice/train';
import test from 'ava';
import fc from 'fast-check';
import { gatherTexts } from '../../packages/train/src/gatherTexts.ts';
import { replicaConfig, replicaLayout, replicaRequest } from '../../packages/train/src/synchronize/layout.ts';
import { sumDifferences, sumQuantized } from '../../packages/train/src/synchronize/outerGradient.ts';
import { outerStep } from '../../packages/train/src/synchronize/outerOptimizer.ts';
import { dealParts, partsDue, stageCount } from '../../packages/train/src/synchronize/parts.ts';
import { decode, encode, encodedBytes, GROUP_VALUES } from '../../packages/train/src/synchronize/quantize.ts';
import { soloWorkers, type Workers } from '../../packages/train/src/workers.ts';
import { tinyRun } from './support/tinyTrainer.ts';

const settings = SynchronizeConfig.parse({ everySteps: 5, replicas: 4 });

test('an outer step is gradient descent with Nesterov’s momentum on the mean difference', (t) => {
  const weights = Float32Array.of(1, -2, 0.5);
  const momentum = Float32Array.of(0.1, 0, -0.3);
  const sums = Float32Array.of(0.4, -0.8, 0);
  outerStep(weights, momentum, sums, settings);
  const expected = [
    [1, 0.1, 0.1],
    [-2, 0, -0.2],
    [0.5, -0.3, 0],
  ].map(([w, m, g]) => {
    const next = 0.9 * m! + g!;
    return { m: next, w: w! - 0.7 * (g! + 0.9 * next) };
  });
  expected.forEach(({ m, w }, i) => {
    t.true(Math.abs(momentum[i]! - m) < 1e-7);
    t.true(Math.abs(weights[i]! - w) < 2e-7);
  });
  // Without momentum, at a rate of one, the mean of the replicas is the next model.
  const mean = Float32Array.of(3);
  outerStep(mean, Float32Array.of(0), Float32Array.of(4), { ...settings, learningRate: 1, momentum: 0 });
  t.deepEqual([...mean], [2]);
});

test('rounded values are within half a step of their group’s scale, and zeros stay', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -1e9, max: 1e9 }), { maxLength: 700 }), (list) => {
      const values = Float32Array.from(list, (n) => (n % 3 === 0 ? n * 1e-20 : n));
      const encoded = encode(values);
      const decoded = new Float32Array(values.length);
      decode(encoded, decoded);
      if (encoded.length !== encodedBytes(values.length)) return false;
      return values.every((value, i) => {
        const from = Math.floor(i / GROUP_VALUES) * GROUP_VALUES;
        const largest = values
          .subarray(from, from + GROUP_VALUES)
          .reduce((a, b) => Math.max(a, Math.abs(b)), 0);
        const step = Math.max(largest / 127, 1e-38);
        return Math.abs(decoded[i]! - value) <= 0.501 * step && (value !== 0 || decoded[i] === 0);
      });
    }),
  );
  t.pass();
});

test('a group with a number that is not finite comes out as NaN, and the others as they were', (t) => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 3.4e38]) {
    const values = new Float32Array(2 * GROUP_VALUES).fill(1);
    values[3] = bad;
    const decoded = new Float32Array(values.length);
    decode(encode(values), decoded);
    const fits = Number.isFinite(Math.fround(bad));
    t.is(decoded.subarray(0, GROUP_VALUES).some(Number.isNaN), !fits);
    t.true(decoded.subarray(GROUP_VALUES).every((value) => Math.abs(value - 1) < 1e-6));
  }
});

test('each part of the model has its step of every interval, and after the last step all have', (t) => {
  const due = (step: number, parts: number) => partsDue(step, 14, { ...settings, parts });
  t.deepEqual(
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14].map((step) => due(step, 2).join()),
    ['', '0', '', '', '1', '', '0', '', '', '1', '', '0,1'],
  );
  t.deepEqual(
    [1, 4, 5, 10, 14].map((step) => due(step, 1).join()),
    ['', '', '0', '0', '0'],
  );
});

test('stages are dealt out to parts of about equal size, each to one', (t) => {
  const { model } = tinyRun({});
  const { partOf, sizes } = dealParts(model, 2);
  t.is(partOf.length, stageCount(model));
  const all = dealParts(model, 1).sizes[0]!;
  t.is(sizes[0]! + sizes[1]!, all);
  t.deepEqual([...new Set(partOf)].sort(), [0, 1]);
  t.true(Math.max(...sizes) < 0.7 * all, sizes.join());
});

const REPLICAS = 4;
const LENGTH = 5 * GROUP_VALUES;

const differencesOf = (replica: number) => {
  const values = new Float32Array(new SharedArrayBuffer(4 * LENGTH));
  for (let i = 0; i < LENGTH; i++) values[i] = Math.sin(replica * 78.2 + i * 12.9) * 10 ** (i % 4);
  return values;
};

test('rounded sums are near the exact ones, and sums of one worker are those of a tree', (t) => {
  const exact = Array.from({ length: REPLICAS }, (_, r) => differencesOf(r));
  sumDifferences(soloGroup(), exact, exact[0]!).wait();
  const [a, b, c, d] = Array.from({ length: REPLICAS }, (_, r) => differencesOf(r));
  t.true(
    exact[0]!.every(
      (sum, i) => sum === Math.fround(Math.fround(a![i]! + b![i]!) + Math.fround(c![i]! + d![i]!)),
    ),
  );
  const rounded = Array.from({ length: REPLICAS }, (_, r) => differencesOf(r));
  sumQuantized(soloGroup(), rounded, rounded[0]!).wait();
  const largest = Math.max(...exact[0]!.map(Math.abs));
  t.true(rounded[0]!.every((sum, i) => Math.abs(sum - exact[0]![i]!) < largest / 40));
  t.true(rounded[0]!.some((sum, i) => sum !== exact[0]![i]));
});

test('a worker has neighbouring replicas, or a part of one, and meets those that own the same part', (t) => {
  const asked: string[] = [];
  const workers = (rank: number, size: number): Workers => ({
    ...soloWorkers(),
    ...{ rank, size },
    group(ranks) {
      asked.push(ranks.join(' '));
      return { ...soloGroup(), ranks, rank: ranks.indexOf(rank), size: ranks.length } as Group;
    },
  });
  const few = replicaLayout(workers(1, 2), 4, 2);
  t.deepEqual(few.replicas, [2, 3]);
  t.deepEqual([few.topology.rank, few.topology.size, few.topology.experts.size], [0, 1, 1]);
  t.deepEqual(few.counterparts.ranks, [0, 1]);
  const many = replicaLayout(workers(5, 8), 2, 2);
  t.deepEqual(many.replicas, [1]);
  t.deepEqual([many.topology.rank, many.topology.size], [1, 4]);
  t.deepEqual(many.topology.world.ranks, [4, 5, 6, 7]);
  t.deepEqual(many.topology.experts.ranks, [4, 5]);
  t.deepEqual(many.topology.expertReplicas.ranks, [5, 7]);
  t.deepEqual(many.counterparts.ranks, [1, 5]);
});

test('replicas share every batch out, also where it grows', (t) => {
  const config = tinyRun({ batch: { sequences: 16, ramp: { from: 8, increment: 8, steps: 2 } }, lanes: 4 });
  const whole = { ...config, parallel: { ...config.parallel, synchronize: { ...settings, replicas: 2 } } };
  const own = replicaConfig(whole, 2);
  t.is(own.parallel.lanes, 2);
  t.is(own.batch.sequences, 8);
  t.like(own.batch.ramp, { from: 4, increment: 4, steps: 2 });
  const sampleOf = (step: number, replica: number) =>
    replicaRequest({ step, learningRate: 1, recheck: 'always' }, whole, replica);
  t.deepEqual(sampleOf(1, 1), { step: 1, learningRate: 1, firstSample: 4 });
  t.deepEqual(sampleOf(4, 0), { step: 4, learningRate: 1, firstSample: 8 + 8 + 16 });
  t.deepEqual(sampleOf(4, 1), { step: 4, learningRate: 1, firstSample: 8 + 8 + 16 + 8 });
  t.is(replicaRequest({ step: 4, learningRate: 1, firstSample: 100 }, whole, 1).firstSample, 108);
});

test('what replicas say is told as one: means of losses, sums of tokens', (t) => {
  const seconds = { total: 1, compute: 1, waiting: 0, communicate: 0, optimize: 0 };
  const result = (changes: Partial<StepResult>): StepResult => ({
    ...{ step: 3, loss: 1, auxiliaryLoss: 0, gradientNorm: 1, groupNorms: { head: 1 }, applied: true },
    ...{ tokens: 8, seconds, peakMemoryBytes: 1, expertLoad: [[0.5, 0.5]] },
    ...changes,
  });
  const one = combineReplicas([
    result({ loss: 2, lastUpdate: { learningRate: 0.1, overall: 1, groups: { head: 1 } } }),
    result({
      ...{ loss: 4, gradientNorm: 3, groupNorms: { head: 3 }, expertLoad: [[1, 0]], applied: false },
      lastUpdate: { learningRate: 0.1, overall: 3, groups: { head: 5 } },
    }),
  ]);
  t.like(one, {
    ...{ step: 3, loss: 3, gradientNorm: 2, groupNorms: { head: 2 }, tokens: 16, applied: false },
    ...{ expertLoad: [[0.75, 0.25]], lastUpdate: { learningRate: 0.1, overall: 2, groups: { head: 3 } } },
  });
  t.is(one.seconds.total, 2);
  t.is(combineReplicas([result({}), result({})]).lastUpdate, undefined);
});

test('texts of all workers come in order', (t) => {
  t.deepEqual(gatherTexts(soloGroup(), 'größer'), ['größer']);
});
