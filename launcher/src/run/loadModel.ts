/** A model from a file that holds one alone, or the whole configuration of a run. */

import { loadYamlConfig } from '@sluice/core';
import { ModelConfig, type Scale } from '@sluice/model';
import { RunConfig } from '@sluice/train';
import { z } from 'zod';

/** Sequence length where the file names none: that of the paper's pretraining. */
const DEFAULT_SEQUENCE_LENGTH = 4096;

export interface LoadedModel {
  readonly model: ModelConfig;
  readonly sequenceLength: number;
  /** The whole configuration, where the file is that of a run. */
  readonly run: RunConfig | undefined;
}

/** Names of the keys at the top of a file, to tell what it is. */
export function topKeys(path: string): string[] {
  return Object.keys(loadYamlConfig(path, z.record(z.string(), z.unknown())));
}

/**
 * @param scale in place of the file's own
 * @throws the coded errors of `loadYamlConfig`
 */
export function loadModel(path: string, scale?: Scale): LoadedModel {
  if (!topKeys(path).includes('model')) {
    const overrides = scale ? [`scale=${scale}`] : [];
    const model = loadYamlConfig(path, ModelConfig, { overrides });
    return { model, sequenceLength: DEFAULT_SEQUENCE_LENGTH, run: undefined };
  }
  const run = loadYamlConfig(path, RunConfig, { overrides: scale ? [`model.scale=${scale}`] : [] });
  return { model: run.model, sequenceLength: run.data.sequenceLength, run };
}
