import { hostArray } from '@sluice/engine';
/** What the trainer adds to the measurements of a model: several workers, and the size of its updates. */

import type { Group } from '@sluice/collectives';
import type { SampleResult } from '@sluice/train';
import test from 'ava';
import type { PlacedParameter } from '../../packages/train/src/flatValues.ts';
import { Snapshots } from '../../packages/train/src/snapshots.ts';
import type { Trainer } from '../../packages/train/src/trainer.ts';
import { restoreState, trainerPieces, trainerState } from '../../packages/train/src/trainerState.ts';
import { soloWorkers, type Workers } from '../../packages/train/src/workers.ts';
import { severalBlocks, tinyRun, tinyTrainer } from './support/tinyTrainer.ts';

const config = tinyRun({ model: severalBlocks });

const groups = { experts: { learningRateScale: 3 }, norms: { weightDecay: 0.5 } };

for (const kind of ['adamw', 'muon'] as const)
  test.serial(`${kind}: the update ratio is that of the weights before and after the step`, async (t) => {
    const trainer = await tinyTrainer(tinyRun({ model: severalBlocks, optimizer: { kind, groups } }));
    const weights = () =>
      trainer.spaces.flatMap(({ space }) =>
        space.parameters.map(({ spec, parameter }) => ({
          ...{ name: spec.name, group: spec.group },
          values: parameter.hostValues.slice(),
        })),
      );
    await trainer.trainStep({ step: 1, learningRate: 0.01 });
    const before = weights();
    await trainer.trainStep({ step: 2, learningRate: 0.007 });
    const after = weights();
    const { updateRatio, layers } = await trainer.diagnose({ sequences: 2 });
    const { lastUpdate } = await trainer.trainStep({ step: 3, learningRate: 0.01 });
    const ratio = (isCounted: (name: string, group: string) => boolean) => {
      let [moved, norm] = [0, 0];
      before.forEach(({ name, group, values }, i) => {
        if (!isCounted(name, group)) return;
        values.forEach((w, j) => {
          moved += (after[i]!.values[j]! - w) ** 2;
          norm += w ** 2;
        });
      });
      return Math.sqrt(moved / norm);
    };
    const isNear = (actual: number | null, expected: number) => Math.abs(actual! / expected - 1) < 1e-4;
    t.true(updateRatio! > 1e-3);
    t.true(
      isNear(
        updateRatio,
        ratio(() => true),
      ),
    );
    for (const { layer, updateRatio } of layers) {
      const expected = ratio((name) => name.startsWith(`model.layers.${layer}.`));
      t.true(isNear(updateRatio, expected), `layer ${layer}: ${updateRatio}, expected ${expected}`);
    }
    t.is(lastUpdate!.overall, updateRatio!, 'the next step tells the same bits');
    t.is(lastUpdate!.learningRate, 0.007);
    t.deepEqual(
      Object.keys(lastUpdate!.groups).sort(),
      [...new Set(before.map(({ group }) => group))].sort(),
    );
    for (const [name, update] of Object.entries(lastUpdate!.groups)) {
      const expected = ratio((_, group) => group === name);
      t.true(isNear(update, expected), `${name}: ${update}, expected ${expected}`);
    }
  });

for (const kind of ['adamw', 'muon'] as const)
  test.serial(`${kind}: a step tells the same of the update before it, whatever came between`, async (t) => {
    const run = tinyRun({ model: severalBlocks, optimizer: { kind, groups } });
    const third = async (between: (trainer: Trainer) => Promise<Trainer | undefined>) => {
      const trainer = await tinyTrainer(run);
      const first = await trainer.trainStep({ step: 1, learningRate: 0.01 });
      t.is(first.lastUpdate, undefined);
      await trainer.trainStep({ step: 2, learningRate: 0.007 });
      const now = (await between(trainer)) ?? trainer;
      return (await now.trainStep({ step: 3, learningRate: 0.01, recheck: 'never' })).lastUpdate;
    };
    const quiet = await third(async () => undefined);
    t.true(quiet!.overall > 0);
    const diagnosed = async (trainer: Trainer) => {
      await trainer.diagnose({ sequences: 1 });
      return trainer;
    };
    t.deepEqual(await third(diagnosed), quiet);
    const wentBack = async (trainer: Trainer) => {
      const snapshots = new Snapshots();
      snapshots.take(2, trainer);
      for (const step of [3, 4]) await trainer.trainStep({ step, learningRate: 0.02 });
      snapshots.restore(2, trainer);
      return trainer;
    };
    t.deepEqual(await third(wentBack), quiet);
    const resumed = async (trainer: Trainer) => {
      const other = await tinyTrainer(run);
      const pieces = trainerPieces(trainer);
      for (const [i, { values }] of trainerPieces(other).entries()) values.set(pieces[i]!.values);
      restoreState(other, JSON.parse(JSON.stringify(trainerState(trainer))));
      return other;
    };
    t.deepEqual(await third(resumed), quiet);
  });

test.serial('a step tells of an update with numbers that are not finite after a resume, too', async (t) => {
  const trainer = await tinyTrainer(config);
  await trainer.trainStep({ step: 1, learningRate: 0.01 });
  trainer.spaces[0]!.optimizer.pieces[0]!.moved[0] = Number.POSITIVE_INFINITY;
  const state = JSON.parse(JSON.stringify(trainerState(trainer)));
  const { lastUpdate } = await trainer.trainStep({ step: 2, learningRate: 0.01 });
  t.is(lastUpdate!.overall, Number.NaN);
  const other = await tinyTrainer(config);
  restoreState(other, state);
  t.deepEqual((await other.trainStep({ step: 2, learningRate: 0.01 })).lastUpdate, lastUpdate);
});

test.serial('an update that was not taken, or not applied, has no size', async (t) => {
  const trainer = await tinyTrainer(config);
  const ratio = async () => (await trainer.diagnose({ sequences: 1 })).updateRatio;
  t.is(await ratio(), null);
  await trainer.trainStep({ step: 1, learningRate: 0.01 });
  t.true((await ratio())! > 0);
  const [{ parameter }] = trainer.spaces[0]!.space.parameters as [PlacedParameter];
  const value = parameter.hostValues[0]!;
  parameter.hostValues[0] = Number.NaN;
  t.false((await trainer.trainStep({ step: 2, learningRate: 0.01 })).applied);
  parameter.hostValues[0] = value;
  t.is(await ratio(), null);
});

const SAMPLES = {
  ...{ prompts: [[3], [1, 2, 3, 4, 5, 6, 7], [5, 10]], maxTokens: 12, temperature: 1 },
  ...{ vocabulary: 20, stop: [0] },
};

test.serial('texts are functions of weights, seed, step and prompt, whoever writes them', async (t) => {
  const written = async (step: number, workers: Partial<Workers>[] = [{}]) => {
    const parts: SampleResult['written'][] = [];
    for (const changes of workers) {
      const solo = soloWorkers();
      const trainer = await tinyTrainer(config, { workers: { ...solo, ...changes } });
      parts.push((await trainer.sample({ ...SAMPLES, step })).written);
    }
    return parts.flat();
  };
  const alone = await written(5);
  t.deepEqual(
    alone.map(({ prompt }) => prompt),
    [0, 1, 2],
  );
  for (const { tokens } of alone) {
    t.true(tokens.length > 0 && tokens.length <= 12);
    t.true(tokens.every((token) => token > 0 && token < 20));
  }
  const of = (size: number) => Array.from({ length: size }, (_, rank) => ({ rank, size }));
  t.deepEqual(await written(5, of(2)), alone);
  t.deepEqual(await written(5, of(4)), alone);
  t.notDeepEqual(await written(6), alone);
});

test.serial('measuring and sampling change nothing of what training goes on with', async (t) => {
  const run = async (diagnose: boolean) => {
    const trainer = await tinyTrainer(config);
    for (let step = 1; step <= 3; step++) {
      await trainer.trainStep({ step, learningRate: 0.01 });
      if (diagnose) await trainer.diagnose({ sequences: 3 });
      if (diagnose) await trainer.sample({ ...SAMPLES, step });
    }
    return trainer.spaces.map(({ space }) => hostArray(space.memories[0]!.values).slice());
  };
  t.deepEqual(await run(true), await run(false));
});

/**
 * A group of two of which one rank runs at a time: sums of a first round, in which each rank only hands its part in, are
 * what each gets in the second.
 */
function halfGroup(rank: number, handedIn: Float64Array[][]): Group {
  let call = 0;
  return {
    ranks: [0, 1],
    rank,
    size: 2,
    allReduce(buffer: Float64Array) {
      handedIn[call] ??= [];
      const parts = handedIn[call++]!;
      parts[rank] ??= buffer.slice();
      if (parts.length === 2 && parts[0])
        buffer.forEach((_, i) => {
          buffer[i] = parts[0]![i]! + parts[1]![i]!;
        });
      return { done: true, wait: () => {} };
    },
  } as unknown as Group;
}

test.serial('one worker and two measure the same bits', async (t) => {
  const request = { sequences: 5 };
  /** A trainer in the state of a third step that is the same whoever owns what. */
  const prepared = async (workers: Workers) => {
    const trainer = await tinyTrainer(config, { workers });
    trainer.taken = { step: 3, learningRate: 0.01 };
    for (const { tensor, begin, moved } of trainer.spaces.flatMap(({ optimizer }) => optimizer.pieces)) {
      moved.forEach((_, i) => {
        moved[i] = 1 + Math.sin(begin + i + tensor.size);
      });
    }
    return trainer;
  };
  const alone = await (await prepared(soloWorkers())).diagnose(request);
  const handedIn: Float64Array[][] = [];
  const diagnoseRank = async (rank: number) => {
    const world = halfGroup(rank, handedIn);
    const group = (ranks: readonly number[]) => (ranks.length === 2 ? world : soloWorkers().world);
    return (await prepared({ ...soloWorkers(), rank, size: 2, world, group })).diagnose(request);
  };
  await diagnoseRank(0);
  t.deepEqual(await diagnoseRank(1), alone);
  t.deepEqual(await diagnoseRank(0), alone);
  t.is(alone.sequences, 5);
  t.true(alone.updateRatio! > 0);
});
