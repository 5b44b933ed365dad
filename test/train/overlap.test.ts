/** Exchanges of replicas that overlap steps: their schedule, their arithmetic, and that nothing else changes a bit of them. */

import { fileURLToPath } from 'node:url';
import { hashPiece, hashTensors, readManifest, writeShard } from '@sluice/checkpoint';
import { selectBackend, setThreads } from '@sluice/engine';
import { type RunConfig, SynchronizeConfig, savedTensors } from '@sluice/train';
import test from 'ava';
import fc from 'fast-check';
import { replicaConfig, replicaRequest } from '../../packages/train/src/synchronize/layout.ts';
import { mix, outerStep } from '../../packages/train/src/synchronize/outerOptimizer.ts';
import { dealParts, mostOverlap, partsDue, turnOf } from '../../packages/train/src/synchronize/parts.ts';
import type { Replicas } from '../../packages/train/src/synchronize/replicas.ts';
import type { ReplicasState } from '../../packages/train/src/synchronize/replicasState.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import type { TrainAnswer, TrainRequest } from './replicasWorker.ts';
import { makeReplicas, replicasRun, save, trainOn } from './support/replicasRun.ts';
import { severalBlocks, tinyTrainer } from './support/tinyTrainer.ts';
import { startWorkers } from './support/workers.ts';

const hashOf = (config: RunConfig, { state, pieces }: Pick<TrainAnswer, 'state' | 'pieces'>) =>
  hashTensors(savedTensors(config, state), pieces);

const hashed = (config: RunConfig, replicas: Replicas) =>
  hashOf(config, { state: replicas.state(), pieces: replicas.pieces().map(hashPiece) });

test.before(async () => {
  await selectBackend('native');
  setThreads(1);
});

test('an exchange is over before the next one begins, and each part has one in every interval', (t) => {
  const settings = fc
    .record({ parts: fc.integer({ min: 1, max: 6 }), gap: fc.integer({ min: 1, max: 9 }), more: fc.nat(5) })
    .map(({ parts, gap, more }) => ({ parts, everySteps: parts * gap + Math.min(more, parts - 1) }));
  fc.assert(
    fc.property(settings, fc.nat(), fc.integer({ min: 1, max: 80 }), ({ parts, everySteps }, some, last) => {
      const overlapSteps = some % (mostOverlap({ parts, everySteps }) + 1);
      const config = SynchronizeConfig.parse({ everySteps, replicas: 2, parts, overlapSteps });
      const begun = Array.from({ length: parts }, () => [] as number[]);
      let over = 0;
      for (let step = 1; step < last; step++) {
        const due = partsDue(step, last, config);
        if (due.length > 1 || (due.length === 1 && step < over)) return false;
        for (const part of due) {
          begun[part]!.push(step);
          over = step + overlapSteps + 1;
          const turn = turnOf({ part, step }, overlapSteps);
          if (turn < step || turn > step + overlapSteps) return false;
        }
      }
      const isRegular = begun.every((steps) =>
        steps.every((step, i) => i === 0 || step - steps[i - 1]! === everySteps),
      );
      return isRegular && partsDue(last, last, config).length === parts;
    }),
  );
  t.pass();
});

test('what comes is mixed with what a replica has', (t) => {
  const inner = Float32Array.of(1, -2);
  mix(inner, Float32Array.of(3, 2), 0.25);
  t.deepEqual([...inner], [2.5, 1]);
});

const LAST = 10;

test('replicas that exchange while they train do what the formulas say', async (t) => {
  const settings = { everySteps: 6, replicas: 2, parts: 2, overlapSteps: 2, mixing: 0.25 };
  const config = replicasRun(settings, LAST);
  const { partOf } = dealParts(config.model, 2);
  const replicas = await makeReplicas(config);
  await trainOn(replicas, [0, LAST]);

  const synchronize = config.parallel.synchronize!;
  const trainers = await Promise.all([0, 1].map(() => tinyTrainer(replicaConfig(config, 2))));
  const weightsOf = (part: number) =>
    trainers.map(({ spaces }) =>
      spaces.flatMap(({ space }) =>
        space.parameters
          .filter(({ spec }) => partOf[spec.stage] === part)
          .map(({ parameter }) => parameter.values as Float32Array),
      ),
    );
  const outer = [0, 1].map((part) => weightsOf(part)[0]!.map((values) => values.slice()));
  const momentum = outer.map((all) => all.map(({ length }) => new Float32Array(length)));
  const differencesOf = (part: number) => {
    const [one, other] = weightsOf(part);
    return outer[part]!.map((values, i) =>
      values.map((value, j) => Math.fround(value - one![i]![j]!) + Math.fround(value - other![i]![j]!)),
    );
  };
  const arrive = (part: number, sums: readonly Float32Array[], mixing: number) => {
    outer[part]!.forEach((values, i) => {
      outerStep(values, momentum[part]![i]!, sums[i]!, synchronize);
      for (const inner of weightsOf(part)) mix(inner[i]!, values, mixing);
    });
  };
  const sent = new Map<number, { part: number; sums: readonly Float32Array[] }>();
  for (let step = 1; step <= LAST; step++) {
    for (const [replica, trainer] of trainers.entries())
      await trainer.trainStep(replicaRequest({ step, learningRate: 0.01 }, config, replica));
    for (const [since, { part, sums }] of sent) {
      if (step < since + 2 && step < LAST) continue;
      arrive(part, sums, 0.25);
      sent.delete(since);
    }
    if (step === LAST) for (const part of [0, 1]) arrive(part, differencesOf(part), 0);
    else if (step % 3 === 0)
      sent.set(step, { part: (step / 3 - 1) % 2, sums: differencesOf((step / 3 - 1) % 2) });
  }
  // Of tensors of several stages by their places in the whole: pieces have them in the order of parameters within a part.
  const together = replicas.pieces().filter(({ kind }) => kind === 'parameter');
  const byName = new Map(together.map(({ tensor, values }) => [tensor.name, values]));
  for (const { space } of trainers[0]!.spaces) {
    for (const { spec, parameter } of space.parameters) {
      for (const { name, offset, size } of spec.tensors) {
        const values = parameter.values as Float32Array;
        t.deepEqual(byName.get(name), values.slice(offset, offset + size), name);
      }
    }
  }
});

test('a run goes on to the same bits from a checkpoint of any step, whatever is on its way', async (t) => {
  const run = temporaryDirectory(t);
  const settings = { everySteps: 6, replicas: 2, parts: 2, overlapSteps: 2, outerGradients: 'int8' };
  const config = replicasRun(settings, LAST);
  const directories: string[] = [];
  const onTheirWay: unknown[] = [];
  const quiet = await makeReplicas(config);
  await trainOn(quiet, [0, LAST], async (step) => {
    const state = quiet.state();
    onTheirWay.push((state as Partial<ReplicasState>).underway?.part);
    if (step === LAST) return;
    const write = async (to: string) => ({ state, shards: [await writeShard(to, 0, quiet.pieces())] });
    directories.push(await save({ run, step, config }, write));
  });
  const none = undefined;
  t.deepEqual(onTheirWay, [none, none, 0, 0, none, 1, 1, none, 0, none]);
  for (const [i, directory] of directories.entries()) {
    t.is((await readManifest(directory)).version, onTheirWay[i] === none ? 3 : 4);
    const resumed = await makeReplicas(config, undefined, directory);
    await trainOn(resumed, [i + 1, LAST]);
    t.deepEqual(hashed(config, resumed), hashed(config, quiet), `from step ${i + 1}`);
  }
});

const entry = fileURLToPath(new URL('./replicasWorker.ts', import.meta.url));

test('neither workers nor a change of their number, while differences are on their way, changes a bit', async (t) => {
  const server = await startWorkers(t, entry, 4);
  const run = temporaryDirectory(t);
  const train = async (request: TrainRequest) => {
    const answers = await server.callAll<TrainAnswer>('train', request);
    const { state } = answers[0]!;
    const shards = answers.flatMap(({ shard }) => shard ?? []);
    return { state, shards, pieces: answers.flatMap(({ pieces }) => pieces) };
  };
  for (const [size, replicas, parts, everySteps, overlapSteps, outerGradients] of [
    [2, 2, 1, 4, 3, 'float32'],
    [4, 4, 2, 6, 1, 'float32'],
    [2, 4, 1, 3, 0, 'int8'],
    [2, 4, 1, 4, 2, 'int8'],
    [4, 2, 3, 9, 2, 'int8'],
  ] as const) {
    const settings = { replicas, parts, everySteps, overlapSteps, outerGradients };
    const config = replicasRun(settings, LAST, overlapSteps === 3 ? severalBlocks : {});
    const alone = await makeReplicas(config);
    await trainOn(alone, [0, LAST]);
    // Sums are on their way back then, or have not come to that.
    const step = everySteps + (size === 2 ? 0 : Math.ceil(overlapSteps / 2));
    const from = await save({ run, step, config }, (to) => train({ config, size, steps: [0, step], to }));
    const resumed = await train({ config, size: 6 - size, steps: [step, LAST], from });
    t.deepEqual(
      hashOf(config, resumed),
      hashed(config, alone),
      `${size} workers, then ${6 - size}: ${JSON.stringify(settings)}`,
    );
  }
});
