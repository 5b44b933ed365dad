/** A model's parameters, from wherever they lie: a checkpoint of ours, or a Hugging Face directory. */

import { parseConfig } from '@sluice/core';
import { ModelConfig, modelTensors } from '@sluice/model';
import { z } from 'zod';
import { hashTensors } from '../contentHash.ts';
import { type CheckpointReader, openCheckpoint } from '../reader.ts';
import { hashPiece } from '../tensors.ts';
import { HuggingFaceDirectory, isHuggingFaceDirectory } from './directory.ts';
import type { ImportedState } from './import.ts';
import { type LocatedTokenizer, locateTokenizer, tokenizerOfHuggingFace } from './tokenizerFiles.ts';

/** Parameters that are open for reading, with the model that they make. Several reads may be under way at once. */
export interface WeightSource {
  readonly model: ModelConfig;
  /**
   * Reads a logical tensor whole.
   * @param name one of `modelTensors(model)`
   * @param target of the tensor's size; it may lie in shared memory
   */
  read(name: string, target: Float32Array): Promise<void>;
  /** Content hash of the weights: that of a checkpoint which holds the same. */
  hashWeights(): Promise<string>;
  /**
   * The files that the model speaks through, if it has any.
   * @throws SLUICE_E_TOKENIZER_MISSING, SLUICE_E_TOKENIZER_CHANGED
   */
  tokenizer(): Promise<LocatedTokenizer | undefined>;
  /** Keys of a `config.json` that were passed over when the model was imported. */
  readonly ignoredKeys: Readonly<Record<string, unknown>>;
  close(): Promise<void>;
}

/**
 * @param directory of a checkpoint, or a Hugging Face directory
 * @throws SLUICE_E_CHECKPOINT_…, the errors of `HuggingFaceDirectory.open`, SLUICE_E_CONFIG_INVALID
 */
export async function openWeights(directory: string): Promise<WeightSource> {
  return isHuggingFaceDirectory(directory)
    ? weightsOfHuggingFace(await HuggingFaceDirectory.open(directory))
    : weightsOfCheckpoint(await openCheckpoint(directory));
}

/** What a checkpoint's configuration says for certain, whoever wrote it. */
const SavedConfig = z.looseObject({ model: ModelConfig });

export function weightsOfCheckpoint(reader: CheckpointReader): WeightSource {
  const { directory, manifest } = reader;
  return {
    model: parseConfig(manifest.config, SavedConfig, directory).model,
    read: (name, target) => reader.readRange('parameter', name, 0, target.length, target),
    hashWeights: async () => manifest.hashes.weights,
    tokenizer: () => locateTokenizer(directory, manifest),
    ignoredKeys: (manifest.state as unknown as Partial<ImportedState>).imported?.ignoredKeys ?? {},
    close: () => reader.close(),
  };
}

export function weightsOfHuggingFace(opened: HuggingFaceDirectory): WeightSource {
  return {
    model: opened.model,
    read: (name, target) => opened.read(name, target),
    hashWeights: () => hashOf(opened),
    tokenizer: async () => tokenizerOfHuggingFace(opened.directory, opened.config),
    ignoredKeys: opened.ignoredKeys,
    close: () => opened.close(),
  };
}

/** Reads everything, a tensor at a time. */
async function hashOf(opened: HuggingFaceDirectory): Promise<string> {
  const tensors = modelTensors(opened.model);
  const pieces = [];
  for (const tensor of tensors) {
    const values = new Float32Array(tensor.size);
    await opened.read(tensor.name, values);
    pieces.push(hashPiece({ tensor, kind: 'parameter', begin: 0, end: tensor.size, values }));
  }
  return hashTensors(tensors, pieces, ['parameter']).weights;
}
