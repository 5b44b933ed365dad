import { beginCheckpoint, commitCheckpoint, openCheckpoint, writeShard } from '@sluice/checkpoint';
import { weightsOfCheckpoint } from '@sluice/checkpoint/huggingface';
import { BLOCK_ELEMENTS } from '@sluice/core';
import { modelTensors } from '@sluice/model';
import {
  measureSavedUpdate,
  type RunConfig,
  type SavedUpdate,
  savedTensors,
  type UpdateRatios,
} from '@sluice/train';
import test, { type ExecutionContext } from 'ava';
import type { Trainer } from '../../packages/train/src/trainer.ts';
import {
  keepOptimizer,
  loadTrainer,
  trainerPieces,
  trainerState,
} from '../../packages/train/src/trainerState.ts';
import { beginFrom } from '../../packages/train/src/weights.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { severalBlocks, tinyRun, tinyTrainer } from './support/tinyTrainer.ts';

const config = tinyRun({ model: severalBlocks, optimizer: { weightDecay: 0.3 } });
const withMuon = tinyRun({ model: severalBlocks, optimizer: { weightDecay: 0.3, kind: 'muon' } });
const withQkClip = tinyRun({
  model: { ...severalBlocks, qkNorm: false, initializerRange: 0.3 },
  optimizer: { qkClip: { threshold: 0.5 } },
});
const newTrainer = (run = config) => tinyTrainer(run);

/** Saves a trainer as the workers of a run do. @returns the checkpoint's directory */
async function save(t: ExecutionContext, trainer: Trainer, step: number, config: RunConfig): Promise<string> {
  const run = temporaryDirectory(t);
  const directory = await beginCheckpoint(run, step);
  const shard = await writeShard(directory, 0, trainerPieces(trainer));
  await commitCheckpoint({
    directory,
    step,
    tensors: savedTensors(config),
    shards: [shard],
    config,
    configHash: 'none',
    state: { worker: trainerState(trainer) },
    probe: {},
  });
  return directory;
}

async function measureSaved(directory: string): Promise<SavedUpdate> {
  const reader = await openCheckpoint(directory);
  try {
    return measureSavedUpdate(reader);
  } finally {
    await reader.close();
  }
}

for (const [kind, run] of Object.entries({ adamw: config, muon: withMuon, 'QK-clip': withQkClip })) {
  test.serial(`${kind}: a checkpoint tells the size of the last update to the last bit`, async (t) => {
    const trainer = await newTrainer(run);
    t.true(modelTensors(config.model).some(({ size }) => size > 2 * BLOCK_ELEMENTS));
    for (let step = 1; step <= 3; step++) await trainer.trainStep({ step, learningRate: 0.01 / step });
    const { updateRatio, layers } = await trainer.diagnose({ sequences: 1 });
    t.true(updateRatio! > 1e-3);
    const saved = await measureSaved(await save(t, trainer, 3, run));
    const { lastUpdate } = await trainer.trainStep({ step: 4, learningRate: 0.01 });
    t.deepEqual(saved, {
      ratios: {
        overall: updateRatio!,
        layers: layers.map((layer) => layer.updateRatio!),
        groups: lastUpdate!.groups,
      },
    });
  });

  test.serial(`${kind}: a trainer that was loaded measures the update that was taken before`, async (t) => {
    const trainer = await newTrainer(run);
    await trainer.trainStep({ step: 1, learningRate: 0.01 });
    const reader = await openCheckpoint(await save(t, trainer, 1, run));
    const loaded = await newTrainer(run);
    await loadTrainer(loaded, reader);
    await reader.close();
    t.deepEqual(await loaded.diagnose({ sequences: 1 }), await trainer.diagnose({ sequences: 1 }));
    await loaded.trainStep({ step: 2, learningRate: 0.01 });
    await trainer.trainStep({ step: 2, learningRate: 0.01 });
    t.deepEqual(await loaded.diagnose({ sequences: 1 }), await trainer.diagnose({ sequences: 1 }));
    t.deepEqual(trainerPieces(loaded), trainerPieces(trainer));
  });
}

test.serial('without an applied update there is none to measure, and it is said why', async (t) => {
  const trainer = await newTrainer();
  t.deepEqual(await measureSaved(await save(t, trainer, 0, config)), { missing: 'no step was taken' });

  await trainer.trainStep({ step: 1, learningRate: 0.01 });
  const [placed] = trainer.spaces[0]!.space.parameters;
  const value = placed!.parameter.hostValues[0]!;
  placed!.parameter.hostValues[0] = Number.NaN;
  await trainer.trainStep({ step: 2, learningRate: 0.01 });
  placed!.parameter.hostValues[0] = value;
  t.deepEqual(await measureSaved(await save(t, trainer, 2, config)), {
    missing: 'it notes no applied update of step 2',
  });
});

test.serial('where weights are all 0, a checkpoint tells that there is no ratio', async (t) => {
  const run = tinyRun({ model: { gate: { position: 'value', initialWeights: 'zeros' } } });
  const trainer = await newTrainer(run);
  await trainer.trainStep({ step: 1, learningRate: 0.01 });
  const saved = await measureSaved(await save(t, trainer, 1, run));
  t.like(saved, { ratios: { groups: { gate: Number.NaN } } });
});

const dense = { experts: undefined, intermediateSize: 40 };

for (const kind of ['adamw', 'muon'] as const) {
  test.serial(
    `${kind}: a new run that keeps the optimizer of a checkpoint goes on as its run would have`,
    async (t) => {
      const run = tinyRun({
        model: dense,
        optimizer: { kind, clip: 'adaptive', adaptiveClip: { warmupSteps: 2 } },
      });
      const went = await newTrainer(run);
      for (let step = 1; step <= 3; step++) await went.trainStep({ step, learningRate: 0.01 });
      const directory = await save(t, went, 3, run);

      const gone = await newTrainer(run);
      const reader = await openCheckpoint(directory);
      await beginFrom(weightsOfCheckpoint(reader), gone, run);
      await keepOptimizer(gone, reader);
      await reader.close();
      for (let step = 1; step <= 3; step++) {
        const firstSample = (step + 2) * run.batch.sequences;
        await gone.trainStep({ step, learningRate: 0.01, firstSample });
        await went.trainStep({ step: step + 3, learningRate: 0.01, firstSample });
        t.deepEqual(trainerPieces(gone), trainerPieces(went), `step ${step}`);
      }
      t.deepEqual(gone.clipping.state, went.clipping.state);
      const diagnosis = await gone.diagnose({ sequences: 1 });
      t.deepEqual(diagnosis, await went.diagnose({ sequences: 1 }));

      // Saved and loaded, and kept by yet another run, it still knows how many steps its moments are of.
      const again = await openCheckpoint(await save(t, gone, 3, run));
      const loaded = await newTrainer(run);
      await loadTrainer(loaded, again);
      t.is(loaded.keptSteps, 3);
      t.deepEqual(await loaded.diagnose({ sequences: 1 }), diagnosis);
      await keepOptimizer(loaded, again);
      t.is(loaded.keptSteps, 6);
      t.is((measureSavedUpdate(again) as { ratios: UpdateRatios }).ratios.overall, diagnosis.updateRatio!);
      await again.close();
    },
  );
}
