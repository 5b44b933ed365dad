/** Loading a model for inference, from a checkpoint or a Hugging Face directory: the weights only, on one process. */

import { type CheckpointReader, openCheckpoint } from '@sluice/checkpoint';
import {
  HuggingFaceDirectory,
  type ImportedState,
  isHuggingFaceDirectory,
  tokenizerFolder,
  type WeightSource,
  weightsOfCheckpoint,
  weightsOfHuggingFace,
} from '@sluice/checkpoint/huggingface';
import { availableCores, parseConfig, SluiceError } from '@sluice/core';
import { type Dataset, openDataset } from '@sluice/data';
import { Parameter, selectBackend, setThreads } from '@sluice/engine';
import { Decoder, ModelConfig, modelParameters } from '@sluice/model';
import { measureSavedUpdate, type SavedUpdate } from '@sluice/train';
import { z } from 'zod';
import { InferenceModel } from './inferenceModel.ts';
import { huggingFaceCodec, type TextCodec, trainedCodec } from './textCodec.ts';

export interface LoadOptions {
  /** TensorFlow.js backend that gives values at once, so not `webgpu`; `native` falls back to `cpu`. */
  readonly backend: string;
  /** 0 for all cores. */
  readonly threads: number;
  /** Changes of the rotary embedding, `model.ropeTheta=…` or `model.ropeScaling.…=…`. */
  readonly set?: readonly string[] | undefined;
}

/** Where a model comes from: its configuration, its weights, and how it is spoken to. */
interface ModelSource {
  readonly weights: WeightSource;
  /** Longest sequence that the model is meant for. */
  readonly sequenceLength: number;
  readonly loadCodec: () => Promise<TextCodec>;
  /** The corpus that the model was trained on, if it was trained here. */
  readonly openCorpus?: () => Dataset;
  readonly measureUpdate: () => Promise<SavedUpdate>;
}

/**
 * @param directory of a checkpoint, or a Hugging Face directory
 * @throws SLUICE_E_CHECKPOINT_…, the errors of `HuggingFaceDirectory.open`, SLUICE_E_CONFIG_OVERRIDE; those of tokenizer
 *   and corpus come later, when text or the corpus is asked for
 */
export async function loadForInference(directory: string, options: LoadOptions): Promise<InferenceModel> {
  const source = isHuggingFaceDirectory(directory)
    ? await openHuggingFace(directory)
    : await openOwnCheckpoint(directory);
  try {
    const model = overrideRope(source.weights.model, directory, options.set ?? []);
    await selectBackend(options.backend);
    setThreads(options.threads || availableCores().count);
    const decoder = new Decoder(model, await readParameters(model, source.weights));
    const { sequenceLength, loadCodec, openCorpus, measureUpdate } = source;
    return new InferenceModel(decoder, { sequenceLength, loadCodec, openCorpus, measureUpdate });
  } finally {
    await source.weights.close();
  }
}

async function readParameters(model: ModelConfig, source: WeightSource): Promise<Map<string, Parameter>> {
  const parameters = new Map<string, Parameter>();
  for (const { name, shape, size, tensors } of modelParameters(model)) {
    const values = new Float32Array(size);
    for (const tensor of tensors)
      await source.read(tensor.name, values.subarray(tensor.offset, tensor.offset + tensor.size));
    parameters.set(name, new Parameter(name, shape, values));
  }
  return parameters;
}

async function openHuggingFace(directory: string): Promise<ModelSource> {
  const opened = await HuggingFaceDirectory.open(directory);
  return {
    weights: weightsOfHuggingFace(opened),
    sequenceLength: opened.maxLength,
    loadCodec: () => huggingFaceCodec(directory, opened.config),
    measureUpdate: async () => ({ missing: 'a Hugging Face directory holds no moments of an optimizer' }),
  };
}

/** What inference needs, besides the model, of the configuration that a run's checkpoint was saved with. */
const SavedConfig = z.looseObject({ data: z.looseObject({ sequenceLength: z.int().min(1) }) });

async function openOwnCheckpoint(directory: string): Promise<ModelSource> {
  const reader = await openCheckpoint(directory);
  const source = {
    weights: weightsOfCheckpoint(reader),
    measureUpdate: () => measureUpdateOf(directory),
  };
  const { imported } = reader.manifest.state as unknown as Partial<ImportedState>;
  if (imported) {
    const { maxLength: sequenceLength, config } = imported;
    return { ...source, sequenceLength, loadCodec: () => importedCodec(reader, config) };
  }
  const { data } = parseConfig(reader.manifest.config, SavedConfig, directory);
  const openCorpus = () => openDataset(String(reader.manifest.state.dataDirectory));
  return {
    ...source,
    sequenceLength: data.sequenceLength,
    loadCodec: async () => trainedCodec(openCorpus().tokenizerPath),
    openCorpus,
  };
}

/** Opens the checkpoint anew: few ask for this, and those long after the weights were read. */
async function measureUpdateOf(directory: string): Promise<SavedUpdate> {
  const reader = await openCheckpoint(directory);
  try {
    return await measureSavedUpdate(reader);
  } finally {
    await reader.close();
  }
}

function importedCodec(
  { directory, manifest }: CheckpointReader,
  config: Readonly<Record<string, unknown>>,
): Promise<TextCodec> {
  const folder = tokenizerFolder(directory, manifest);
  if (folder !== undefined) return huggingFaceCodec(folder, config);
  throw new SluiceError(
    'SLUICE_E_TOKENIZER_MISSING',
    `The checkpoint ${directory} was imported without a tokenizer.`,
    { details: { path: directory } },
  );
}

/** The keys that have no weights of their own, and so may change after training. */
const ROPE_KEY = /^model\.(ropeTheta|ropeScaling)\b/;

function overrideRope(model: ModelConfig, directory: string, set: readonly string[]): ModelConfig {
  const refused = set.find((override) => !ROPE_KEY.test(override));
  if (refused !== undefined) {
    throw new SluiceError(
      'SLUICE_E_CONFIG_OVERRIDE',
      `--set ${refused}  cannot be changed in a trained model; model.ropeTheta and model.ropeScaling can.`,
      { details: { override: refused } },
    );
  }
  if (set.length === 0) return model;
  return parseConfig({ model }, z.strictObject({ model: ModelConfig }), directory, set).model;
}
