/** A model from a file that holds one alone, or the whole configuration of a run. */

import { allKeyPaths, loadYamlConfig } from '@sluice/core';
import type { ModelConfig, Scale } from '@sluice/model';
import { RunConfig } from '@sluice/train';
import { refuseOtherKind, topKeys } from './fileKind.ts';

/** Sequence length where the file names none: that of the paper's pretraining. */
const DEFAULT_SEQUENCE_LENGTH = 4096;
/** Of a model whose file says nothing of batches: those of the paper's mixture of experts. */
const DEFAULT_BATCH = 1024;

export interface ModelFlags {
  /** In place of the file's own. */
  readonly scale?: Scale | undefined;
  /** Changes of a run's configuration, whose `model` a model alone is. */
  readonly set?: readonly string[] | undefined;
}

export interface LoadedModel {
  readonly model: ModelConfig;
  /** The whole configuration; of a model alone one that makes a run of it. */
  readonly run: RunConfig;
  readonly isAlone: boolean;
}

/**
 * @param sequences of the batch of a model alone
 * @throws SLUICE_E_USAGE for a file of another kind, and the coded errors of `loadYamlConfig`
 */
export function loadModel(
  path: string,
  { scale, set = [] }: ModelFlags = {},
  sequences = DEFAULT_BATCH,
): LoadedModel {
  refuseOtherKind(path, 'model', 'run');
  const keysOfRuns = allKeyPaths(RunConfig);
  const isAlone = !topKeys(path).some((key) => keysOfRuns.includes(key));
  const beside = {
    data: { recipe: 'none', sequenceLength: DEFAULT_SEQUENCE_LENGTH },
    batch: { sequences, grainSequences: 1 },
    training: { steps: 1 },
    optimizer: { learningRate: 1e-3 },
  };
  const run = loadYamlConfig(path, RunConfig, {
    overrides: [...set, ...(scale ? [`model.scale=${scale}`] : [])],
    ...(isAlone && { section: { key: 'model', beside } }),
  });
  return { model: run.model, run, isAlone };
}
