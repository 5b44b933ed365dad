/** Trainers of a model so small that their steps take no time, on sequences that count. */

import { selectBackend } from '@sluice/engine';
import { RunConfig } from '@sluice/train';
import type { TokenSource } from '../../../packages/train/src/tokenSource.ts';
import { topology } from '../../../packages/train/src/topology.ts';
import { Trainer } from '../../../packages/train/src/trainer.ts';
import { soloWorkers, type Workers } from '../../../packages/train/src/workers.ts';

const VOCABULARY = 24;

/** A run with experts. @param changes keys of the model, the batch and the optimizer that differ */
export function tinyRun(
  changes: { model?: object; batch?: object; optimizer?: object; lanes?: number } = {},
): RunConfig {
  return RunConfig.parse({
    model: {
      vocabularySize: VOCABULARY,
      hiddenSize: 16,
      numLayers: 2,
      numAttentionHeads: 2,
      numKeyValueHeads: 1,
      headDim: 8,
      experts: { count: 4, topK: 2, intermediateSize: 12 },
      ...changes.model,
    },
    data: { recipe: 'none', sequenceLength: 8 },
    parallel: { lanes: changes.lanes ?? 2 },
    batch: { sequences: 4, grainSequences: 1, ...changes.batch },
    training: { steps: 10_000 },
    optimizer: { learningRate: 0.01, ...changes.optimizer },
  });
}

/** Some tensors of this model have several blocks, and so several owners. */
export const severalBlocks = {
  hiddenSize: 72,
  headDim: 32,
  experts: { count: 4, topK: 2, intermediateSize: 70 },
};

/** Counts up, in steps of 1 to `strides` and from a start that depend on the sample. */
export function counting(strides: number, numSequences = 1000): TokenSource {
  return {
    numSequences,
    sequenceLength: 8,
    read(sample, target) {
      const stride = 1 + (sample % strides);
      for (let t = 0; t < target.length; t++) target[t] = (sample * 5 + t * stride) % VOCABULARY;
    },
  };
}

interface TrainerOptions {
  readonly backend?: string;
  readonly source?: TokenSource;
  /** The same as `source` when left out; null where nothing is held out. */
  readonly validation?: TokenSource | null;
  readonly workers?: Workers;
  /** Workers that share one set of experts. */
  readonly expertParallel?: number;
}

/** A trainer with its initial weights. */
export async function tinyTrainer(
  config: RunConfig,
  {
    backend = 'native',
    source = counting(3),
    validation = source,
    workers = soloWorkers(),
    expertParallel = 1,
  }: TrainerOptions = {},
): Promise<Trainer> {
  await selectBackend(backend, config.precision);
  const trainer = new Trainer(config, topology(workers, expertParallel), {
    train: source,
    validation: validation ?? undefined,
  });
  trainer.initialize();
  return trainer;
}
