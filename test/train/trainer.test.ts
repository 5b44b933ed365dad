import { hostArray, nativeBackend } from '@sluice/engine';
import type { StepResult } from '@sluice/train';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import type { AdamWMoments } from '../../packages/train/src/optimizer/pieces.ts';
import { Snapshots } from '../../packages/train/src/snapshots.ts';
import type { Trainer } from '../../packages/train/src/trainer.ts';
import {
  nonFinite,
  restoreState,
  trainerPieces,
  trainerState,
} from '../../packages/train/src/trainerState.ts';
import { counting, tinyRun, tinyTrainer } from './support/tinyTrainer.ts';

const config = tinyRun();

const newTrainer = (backend = 'native') => tinyTrainer(config, { backend, source: counting(1) });

const weightsOf = (trainer: Trainer) =>
  trainer.spaces.flatMap(({ space }) => space.memories.map(({ values }) => hostArray(values).slice()));

test.serial('training learns the pattern, in training and in validation', async (t) => {
  const trainer = await newTrainer();
  const before = (await trainer.evaluate(8)).loss;
  t.true(Math.abs(before - Math.log(24)) < 0.1);
  let last = await trainer.trainStep({ step: 1, learningRate: 0.01 });
  t.true(last.applied && last.gradientNorm > 0);
  for (let step = 2; step <= 80; step++) last = await trainer.trainStep({ step, learningRate: 0.01 });
  t.true(last.loss < 0.5, `loss ${last.loss}`);
  t.true((await trainer.evaluate(8)).loss < 0.5);
  t.is(last.expertLoad?.length, 2);
  t.true(Math.abs(last.expertLoad![0]!.reduce((sum, load) => sum + load, 0) - 1) < 1e-6);
});

test.serial('Muon learns the pattern at the rate of AdamW', async (t) => {
  const trainer = await tinyTrainer(tinyRun({ optimizer: { kind: 'muon' } }), { source: counting(1) });
  for (let step = 1; step <= 80; step++) await trainer.trainStep({ step, learningRate: 0.01 });
  const { loss } = await trainer.evaluate(8);
  t.true(loss < 0.5, `loss ${loss}`);
});

test.serial('the native backend takes the steps of the plain one, to rounding', async (t) => {
  const losses = async (backend: string) => {
    const trainer = await newTrainer(backend);
    const results: StepResult[] = [];
    for (const step of [1, 2, 3]) results.push(await trainer.trainStep({ step, learningRate: 0.01 }));
    return results;
  };
  const native = await losses('native');
  const plain = await losses('cpu');
  native.forEach((result, i) => {
    t.true(Math.abs(result.loss - plain[i]!.loss) < 2e-5 * plain[i]!.loss);
    t.true(Math.abs(result.gradientNorm - plain[i]!.gradientNorm) < 1e-3 * plain[i]!.gradientNorm);
  });
});

test.serial('each validation sequence is scored once, whether or not grains divide', async (t) => {
  const lossOf = async (grainSequences: number, sequences: number, numSequences = 1000) => {
    const uneven = tinyRun({ batch: { sequences: 6, grainSequences } });
    const source = counting(3, numSequences);
    return (await tinyTrainer(uneven, { source })).evaluate(sequences);
  };
  const apart = await lossOf(1, 5);
  t.is(apart.tokens, 5 * 8);
  for (const [grain, sequences, numSequences] of [
    [3, 5, 1000],
    [3, 1000, 5],
    [6, 1000, 5],
    [6, 5, 1000],
  ] as const) {
    const { loss, tokens } = await lossOf(grain, sequences, numSequences);
    t.is(tokens, 5 * 8);
    t.true(Math.abs(loss - apart.loss) < 1e-6 * apart.loss, `grains of ${grain}: ${loss}, not ${apart.loss}`);
  }
});

test.serial('without a validation split a trainer trains, and measures what it trains on', async (t) => {
  const trainer = await tinyTrainer(config, { validation: null });
  t.true((await trainer.trainStep({ step: 1, learningRate: 0.01 })).applied);
  t.true(Number.isFinite(await trainer.probeLoss()));
  t.like(await trainer.diagnose({ sequences: 3 }), { sequences: 3, split: 'train' });
  const held = await (await tinyTrainer(config)).diagnose({ sequences: 3 });
  t.is(held.split, undefined);
});

test.serial('a non-finite gradient never reaches the weights', async (t) => {
  const trainer = await newTrainer();
  await trainer.trainStep({ step: 1, learningRate: 0.01 });
  const norm = trainer.spaces[0]!.space.parameters.find(({ spec }) => spec.name === 'model.norm.weight')!;
  norm.parameter.hostValues[3] = Number.NaN;
  const weights = weightsOf(trainer);
  const loads = trainer.expertLoads;
  const result = await trainer.trainStep({ step: 2, learningRate: 0.01 });
  t.false(result.applied);
  t.deepEqual(weightsOf(trainer), weights);
  t.is(trainer.expertLoads, loads);

  norm.parameter.hostValues[3] = 1;
  t.true((await trainer.trainStep({ step: 3, learningRate: 0.01 })).applied);
});

test.serial(
  'AdamW corrects its moments by the steps that they are of, not by those that were left out',
  async (t) => {
    const trainer = await newTrainer();
    const limits = { loss: 0, gradientNorm: 0 };
    const skipped = await trainer.trainStep({ step: 1, learningRate: 0.01, limits, skipOutlying: true });
    t.false(skipped.applied);
    const resumed = await newTrainer();
    restoreState(resumed, trainerState(trainer));
    for (const one of [trainer, resumed])
      await one.trainStep({ step: 2, learningRate: 0.01, firstSample: 0 });
    const quiet = await newTrainer();
    await quiet.trainStep({ step: 1, learningRate: 0.01 });
    for (const one of [trainer, resumed]) t.deepEqual(weightsOf(one), weightsOf(quiet));
  },
);

test.serial('weights and moments that are not finite are named', async (t) => {
  const trainer = await newTrainer();
  await trainer.trainStep({ step: 1, learningRate: 0.01 });
  t.deepEqual(nonFinite(trainer.pieces()), []);
  const piece = trainer.spaces[0]!.optimizer.pieces.find(
    ({ tensor }) => tensor.name === 'model.norm.weight',
  )!;
  const moments = piece.moments as AdamWMoments;
  for (const value of [Number.NaN, Infinity, -Infinity]) {
    hostArray(moments.secondMoment)[1] = value;
    t.deepEqual(nonFinite(trainer.pieces()), ['model.norm.weight (secondMoment)']);
  }
  hostArray(moments.secondMoment)[1] = 1;
  hostArray(piece.values)[0] = Infinity;
  t.deepEqual(nonFinite(trainer.pieces()), ['model.norm.weight']);
});

test.serial(
  'a state that is held in memory has all of the optimizer’s: going back to it changes no bit',
  async (t) => {
    const optimizer = { kind: 'muon', clip: 'adaptive', adaptiveClip: { warmupSteps: 2, threshold: 0.1 } };
    const trainer = await tinyTrainer(tinyRun({ optimizer }));
    const snapshots = new Snapshots();
    const take = (step: number) => trainer.trainStep({ step, learningRate: 0.01 });
    const state = async () => ({
      pieces: structuredClone(trainerPieces(trainer)),
      state: trainerState(trainer),
      diagnosis: await trainer.diagnose({ sequences: 1 }),
    });
    for (const step of [1, 2, 3]) await take(step);
    snapshots.take(3, trainer);
    const held = await state();
    for (const step of [4, 5]) await take(step);
    const later = await state();
    snapshots.restore(3, trainer);
    t.deepEqual(await state(), held);
    for (const step of [4, 5]) await take(step);
    t.deepEqual(await state(), later);
    snapshots.restart(trainer);
    t.is(trainer.taken, undefined);
    t.deepEqual(trainer.clipping.state!.norms, []);
  },
);

test.serial('memory does not grow over a thousand steps', async (t) => {
  const trainer = await newTrainer();
  const take = async (from: number, steps: number) => {
    for (let step = from; step < from + steps; step++) await trainer.trainStep({ step, learningRate: 0.001 });
  };
  await take(1, 50);
  const before = { pool: nativeBackend().pool.statistics(), tensors: tf.memory().numTensors };
  await take(51, 1000);
  const after = { pool: nativeBackend().pool.statistics(), tensors: tf.memory().numTensors };
  t.is(after.tensors, before.tensors);
  t.is(after.pool.usedBytes, before.pool.usedBytes);
  // Which expert gets how many tokens changes from step to step, so a new size may turn up now and then.
  t.true(after.pool.allocatedBytes <= before.pool.allocatedBytes * 1.5, JSON.stringify({ before, after }));
});
