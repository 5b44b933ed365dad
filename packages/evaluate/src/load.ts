/** Loading a model for inference, from a checkpoint or a Hugging Face directory: the weights only, on one process. */

import { openCheckpoint } from '@sluice/checkpoint';
import {
  HuggingFaceDirectory,
  type ImportedState,
  isHuggingFaceDirectory,
  type WeightSource,
  weightsOfCheckpoint,
  weightsOfHuggingFace,
} from '@sluice/checkpoint/huggingface';
import { availableCores, availableMemory, fitNowhere, parseConfig, SluiceError } from '@sluice/core';
import { DataConfig, type Dataset, findPrepared, openDataset, splitHashes } from '@sluice/data';
import {
  BACKENDS,
  type Backend,
  changeOnHostAsync,
  flatMemory,
  Parameter,
  type Precision,
  selectBackend,
  setThreads,
} from '@sluice/engine';
import { Decoder, ModelConfig, modelParameters, type ParameterGroup, validateCudaSizes } from '@sluice/model';
import { measureSavedUpdate, type SavedUpdate } from '@sluice/train';
import { z } from 'zod';
import { InferenceModel, type TrainedCorpora } from './inferenceModel.ts';
import { codecOf, type Reading, type TextCodec } from './textCodec.ts';

export interface LoadOptions {
  /** TensorFlow.js backend that gives values at once, so not `webgpu`; `native` falls back to `cpu`. */
  readonly backend: string;
  /** Of activations; the backend's own when left out. */
  readonly precision?: Precision | undefined;
  /** 0 for all cores. */
  readonly threads: number;
  /** Changes of the rotary embedding, `model.ropeTheta=…` or `model.ropeScaling.…=…`. */
  readonly set?: readonly string[] | undefined;
  /** Told what a user should know of how the files were read. */
  readonly log?: ((line: string) => void) | undefined;
  /** Where prepared corpora lie, among them the one that the model was trained on; left out where that is not asked for. */
  readonly corpora?: string | undefined;
}

/** Where a model comes from: its configuration, its weights, and what it was trained on. */
interface ModelSource {
  readonly weights: WeightSource;
  /** Longest sequence that the model is meant for. */
  readonly sequenceLength: number;
  /** How it read its corpus, if it was trained here. */
  readonly reading?: Reading;
  /** The corpora that the model was trained on, if it was trained here. */
  readonly openCorpora?: () => TrainedCorpora;
  readonly measureUpdate: () => Promise<SavedUpdate>;
}

/**
 * Makes a backend the running one, for a trained model.
 * @throws SLUICE_E_BACKEND_UNSUPPORTED for one whose values can only be awaited, and the errors of `selectBackend`
 */
export async function selectForInference({
  backend: name,
  precision,
}: Pick<LoadOptions, 'backend' | 'precision'>): Promise<void> {
  const known = (BACKENDS as Readonly<Record<string, Backend>>)[name];
  if (known && !known.readsSynchronously) {
    throw new SluiceError(
      'SLUICE_E_BACKEND_UNSUPPORTED',
      `No trained model can be asked on the backend "${name}": values are needed in the middle of a pass, and there they can only be awaited. Take another one.`,
      { details: { backend: name } },
    );
  }
  await selectBackend(name, precision);
}

/**
 * @param directory of a checkpoint, or a Hugging Face directory
 * @throws the errors of `selectForInference`, SLUICE_E_CHECKPOINT_…, the errors of `HuggingFaceDirectory.open`, SLUICE_E_CONFIG_OVERRIDE,
 *   SLUICE_E_CUDA_KERNEL, SLUICE_E_MODEL_TOO_LARGE; those of tokenizer and corpus come later, when text or the corpus is asked for
 */
export async function loadForInference(directory: string, options: LoadOptions): Promise<InferenceModel> {
  await selectForInference(options);
  const source = isHuggingFaceDirectory(directory)
    ? await openHuggingFace(directory, options)
    : await openOwnCheckpoint(directory, options);
  try {
    const model = overrideRope(source.weights.model, directory, options.set ?? []);
    validateCudaSizes({ ...options, model }, 'logits');
    // What a GPU has is found out when its memory is asked for.
    if (options.backend !== 'cuda') refuseTooLarge(model);
    setThreads(options.threads || availableCores().count);
    const parameters = await readParameters(model, source.weights);
    const { sequenceLength, reading = {}, openCorpora, measureUpdate, weights } = source;
    return new InferenceModel(new Decoder(model, parameters), {
      ...{ sequenceLength, reading, openCorpora, measureUpdate },
      async loadCodec() {
        const codec = await codecOfWeights(weights, directory, reading);
        for (const note of codec.notes) options.log?.(note);
        return codec;
      },
      release() {
        for (const parameter of parameters.values()) parameter.release();
      },
    });
  } finally {
    await source.weights.close();
  }
}

/** @throws SLUICE_E_MODEL_TOO_LARGE */
export function refuseTooLarge(model: ModelConfig, memoryBytes = availableMemory()): void {
  const weightsBytes = 4 * modelParameters(model).reduce((sum, { size }) => sum + size, 0);
  if (!fitNowhere(weightsBytes, memoryBytes)) return;
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toPrecision(3)} GiB`;
  throw new SluiceError(
    'SLUICE_E_MODEL_TOO_LARGE',
    `The model has ${gib(weightsBytes)} of weights in single precision, and there is ${gib(memoryBytes)} of memory.`,
    { details: { weightsBytes, memoryBytes } },
  );
}

/** Groups of weights of which logits are computed, in single precision. */
const OF_LOGITS: readonly ParameterGroup[] = ['embedding', 'head'];

/** A device whose passes read weights in bf16 has these so alone: nobody trains them here. */
async function readParameters(model: ModelConfig, source: WeightSource): Promise<Map<string, Parameter>> {
  const parameters = new Map<string, Parameter>();
  const single = flatMemory();
  const rounded = single.rounded?.() ?? single;
  for (const { name, shape, size, tensors, readIn, group } of modelParameters(model)) {
    const isRounded = readIn === 'activations' && !OF_LOGITS.includes(group);
    const values = (isRounded ? rounded : single).make(size);
    await changeOnHostAsync(values, async (all) => {
      for (const tensor of tensors)
        await source.read(tensor.name, all.subarray(tensor.offset, tensor.offset + tensor.size));
    });
    parameters.set(name, new Parameter(name, shape, values));
  }
  return parameters;
}

async function openHuggingFace(directory: string, { log }: LoadOptions): Promise<ModelSource> {
  const opened = await HuggingFaceDirectory.open(directory);
  for (const note of opened.notes) log?.(note);
  return {
    weights: weightsOfHuggingFace(opened),
    sequenceLength: opened.maxLength,
    measureUpdate: async () => ({ missing: 'a Hugging Face directory holds no moments of an optimizer' }),
  };
}

/** What inference needs, besides the model, of the configuration that a run's checkpoint was saved with. */
const SavedConfig = z.looseObject({
  data: z.looseObject({
    sequenceLength: z.int().min(1),
    documents: DataConfig.shape.documents,
    beginning: DataConfig.shape.beginning,
    mixture: z.looseObject({ weights: z.array(z.number()) }).optional(),
  }),
});

async function openOwnCheckpoint(directory: string, options: LoadOptions): Promise<ModelSource> {
  const reader = await openCheckpoint(directory);
  const { config, state } = reader.manifest;
  const source = {
    weights: weightsOfCheckpoint(reader),
    measureUpdate: () => measureUpdateOf(directory),
  };
  const { imported } = state as unknown as Partial<ImportedState>;
  if (imported) return { ...source, sequenceLength: imported.maxLength };
  const { data } = parseConfig(config, SavedConfig, directory);
  const { sequenceLength, documents, beginning, mixture } = data;
  const openCorpora = () => ({
    datasets: splitHashes(String(state.datasetHash)).map((hash) =>
      corpusOf(directory, hash, options.corpora),
    ),
    weights: mixture?.weights ?? [1],
  });
  return { ...source, sequenceLength, reading: { documents, beginning }, openCorpora };
}

/**
 * A corpus is known by its hash, wherever it lies and whatever it is called.
 * @throws SluiceError SLUICE_E_DATA_UNKNOWN without `corpora`, SLUICE_E_DATA_NOT_PREPARED
 */
function corpusOf(directory: string, hash: string, corpora: string | undefined): Dataset {
  if (corpora === undefined) {
    throw new SluiceError(
      'SLUICE_E_DATA_UNKNOWN',
      `Nothing says where the corpus is that ${directory} was trained on (${hash}): give the folder of prepared corpora as 'corpora', or a corpus as 'dataDirectory'.`,
      { details: { directory, hash } },
    );
  }
  const found = findPrepared(corpora, hash);
  if (found) return openDataset(found.directory);
  throw new SluiceError(
    'SLUICE_E_DATA_NOT_PREPARED',
    `None of the corpora prepared in ${corpora} is the one that ${directory} was trained on (${hash}).`,
    { details: { directory, corpora, hash } },
  );
}

async function codecOfWeights(
  weights: WeightSource,
  directory: string,
  reading: Reading,
): Promise<TextCodec> {
  const tokenizer = await weights.tokenizer();
  if (tokenizer) return codecOf(tokenizer, reading);
  throw new SluiceError(
    'SLUICE_E_TOKENIZER_MISSING',
    `The model in ${directory} comes without a tokenizer.`,
    {
      details: { path: directory },
    },
  );
}

/** Opens the checkpoint anew: few ask for this, and those long after the weights were read. */
async function measureUpdateOf(directory: string): Promise<SavedUpdate> {
  const reader = await openCheckpoint(directory);
  try {
    return measureSavedUpdate(reader);
  } finally {
    await reader.close();
  }
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
