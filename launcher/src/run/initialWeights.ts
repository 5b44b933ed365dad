/** The weights that a new run begins with, where its configuration names some: held against its model and its corpus. */

import { isDeepStrictEqual } from 'node:util';
import { ADAMW_KINDS, compareTensors, readManifest, type TensorDifferences } from '@sluice/checkpoint';
import { isHuggingFaceDirectory, type LocatedTokenizer, openWeights } from '@sluice/checkpoint/huggingface';
import { type ConfigDifference, diffConfigs, SluiceError } from '@sluice/core';
import { openDataset } from '@sluice/data';
import { interleavedGate, type ModelConfig, modelTensors } from '@sluice/model';
import { type RunConfig, savedTensors } from '@sluice/train';

/** Differences that an error's message shows; its details have all. */
const SHOWN_DIFFERENCES = 10;

/** What a run begins with, as its journal keeps it. */
export interface InitialWeights {
  /** Directory of a checkpoint, or a Hugging Face directory; absolute, but in the journal from the run's directory. */
  readonly path: string;
  /** Content hash of the weights there. */
  readonly weights: string;
  /** Content hash of the moments that are kept; absent where they begin anew. */
  readonly optimizer?: string;
  /** Keys in which the run's model differs from the one there, none of which changes a tensor. */
  readonly changes: readonly ConfigDifference[];
  /** Tensors that are not there, and so begin as in a new model. */
  readonly initialized: readonly string[];
  /** Keys of a `config.json` that were passed over when the weights were imported, with their values; absent when there were none. */
  readonly ignoredKeys?: Readonly<Record<string, unknown>>;
}

/** The model that the weights in a directory make. @throws the coded errors of `openWeights` */
export async function modelOfWeights(directory: string): Promise<ModelConfig> {
  const source = await openWeights(directory);
  try {
    return source.model;
  } finally {
    await source.close();
  }
}

/**
 * Opens the weights that a run is to begin with, and compares their tensors with the model's. A Hugging Face directory is
 * read whole, for its content hash.
 * @returns undefined where the configuration names none
 * @throws SLUICE_E_WEIGHTS_MISMATCH with both shapes of each tensor that differs; SLUICE_E_OPTIMIZER_STATE where moments are to
 *   be kept that are not there; the coded errors of `openWeights`
 */
export async function checkInitialWeights({
  model,
  initialize,
  optimizer,
}: Pick<RunConfig, 'model' | 'initialize' | 'optimizer'>): Promise<InitialWeights | undefined> {
  const { from: path, missing } = initialize;
  if (path === undefined) return undefined;
  const source = await openWeights(path);
  try {
    const differences = compareTensors(modelTensors(source.model), modelTensors(model));
    refuseOtherTensors(path, differences, missing, gateHint(source.model, model));
    return {
      path,
      weights: await source.hashWeights(),
      ...(initialize.optimizer === 'keep' && {
        optimizer: await checkKeptOptimizer(path, { model, optimizer }),
      }),
      changes: diffConfigs({ model: source.model }, { model }),
      initialized: differences.missing.map(({ name }) => name),
      ...(Object.keys(source.ignoredKeys).length > 0 && { ignoredKeys: source.ignoredKeys }),
    };
  } finally {
    await source.close();
  }
}

/**
 * Refuses a corpus of other tokens than those that the weights know. Where their tokenizer is gone, nothing can be said.
 * @param corpus directory of the prepared corpus
 * @throws SLUICE_E_TOKENIZER_MISMATCH, SLUICE_E_TOKENIZER_CHANGED
 */
export async function checkInitialTokenizer(
  { initialize: { from } }: Pick<RunConfig, 'initialize'>,
  corpus: string,
  log: (line: string) => void,
): Promise<void> {
  if (from === undefined) return;
  const path = (await tokenizerOfWeights(from))?.path;
  if (path === undefined) {
    log(`the tokenizer of ${from} is not there; make sure that it is the corpus’s`);
    return;
  }
  const dataset = openDataset(corpus);
  dataset.close();
  if (!dataset.hasTokenizer(path)) {
    throw new SluiceError(
      'SLUICE_E_TOKENIZER_MISMATCH',
      `${corpus} was prepared with another tokenizer than ${path}, that of the weights to begin with.`,
      { details: { directory: corpus, tokenizer: path, from } },
    );
  }
}

/**
 * The tokenizer of the weights in a directory, if it is still there.
 * @throws SLUICE_E_TOKENIZER_CHANGED, and the coded errors of `openWeights`
 */
export async function tokenizerOfWeights(directory: string): Promise<LocatedTokenizer | undefined> {
  const source = await openWeights(directory);
  try {
    return await source.tokenizer();
  } catch (error) {
    // What it lay with is gone; another in its place is no tokenizer of these weights.
    if (error instanceof SluiceError && error.code !== 'SLUICE_E_TOKENIZER_CHANGED') return undefined;
    throw error;
  } finally {
    await source.close();
  }
}

/** @returns content hash of the moments that are kept */
async function checkKeptOptimizer(
  path: string,
  config: Pick<RunConfig, 'model' | 'optimizer'>,
): Promise<string> {
  const refuse = (reason: string) => {
    throw new SluiceError(
      'SLUICE_E_OPTIMIZER_STATE',
      `initialize.optimizer is keep, but ${path} ${reason}.`,
      { details: { path, kind: config.optimizer.kind } },
    );
  };
  if (isHuggingFaceDirectory(path)) refuse('is a Hugging Face directory, which has weights alone');
  const { hashes, kinds, tensors } = await readManifest(path);
  if (hashes.optimizer === null) refuse('was imported, and has weights alone');
  const saved = new Map(tensors.map((tensor) => [tensor.name, tensor.kinds ?? kinds]));
  const other = savedTensors(config).find(
    ({ name, kinds: wanted = ADAMW_KINDS }) => !isDeepStrictEqual(saved.get(name), [...wanted]),
  );
  if (other) {
    const kept = saved.get(other.name)!.filter((kind) => kind !== 'parameter');
    if (kept.includes('outerMomentum'))
      refuse('is of replicas that train apart (parallel.synchronize), each of which has moments of its own');
    refuse(
      `has the state of another optimizer than ${config.optimizer.kind}: of ${other.name}, ${kept.join(' and ')}`,
    );
  }
  return hashes.optimizer!;
}

/** Lines for people about what a run begins with. */
export function initialWeightsLines({
  path,
  weights,
  optimizer,
  changes,
  initialized,
}: InitialWeights): string[] {
  const show = (value: unknown) => (value === undefined ? 'unset' : JSON.stringify(value));
  return [
    `beginning with the weights of ${path} (${weights})`,
    ...(optimizer === undefined ? [] : [`  and with the state of its optimizer (${optimizer})`]),
    ...changes.map(({ key, before, after }) => `  ${key}: ${show(before)} there, ${show(after)} here`),
    ...(initialized.length > 0 ? [`  initialized anew: ${shorten(initialized)}`] : []),
  ];
}

/** A gate whose rows lie among those of the queries is no tensor that could be missing. */
function gateHint(there: ModelConfig, here: ModelConfig): string {
  return interleavedGate(there) === 'none' && interleavedGate(here) !== 'none'
    ? ' To put a gate into such weights, give it a matrix of its own, by initialWeights: zeros in model.gates, and --from-missing initialize.'
    : '';
}

function refuseOtherTensors(
  path: string,
  { missing, surplus, reshaped }: TensorDifferences,
  whatIsMissing: RunConfig['initialize']['missing'],
  hint: string,
): void {
  const shape = (sizes: readonly number[]) => `[${sizes.join(', ')}]`;
  const faults = [
    ...reshaped.map(
      (tensor) => `${tensor.name} is ${shape(tensor.shapeThere)} there, ${shape(tensor.shape)} in the model`,
    ),
    ...(whatIsMissing === 'initialize'
      ? []
      : missing.map((tensor) => `${tensor.name} ${shape(tensor.shape)} is not there`)),
    ...surplus.map((tensor) => `${tensor.name} ${shape(tensor.shape)} is there, but not in the model`),
  ];
  if (faults.length === 0) return;
  throw new SluiceError(
    'SLUICE_E_WEIGHTS_MISMATCH',
    `The weights of ${path} do not fit the model: ${shorten(faults, '; ')}.${hint}`,
    { details: { path, faults } },
  );
}

function shorten(items: readonly string[], separator = ', '): string {
  const shown = items.slice(0, SHOWN_DIFFERENCES);
  const rest = items.length - shown.length;
  return [...shown, ...(rest > 0 ? [`and ${rest} more`] : [])].join(separator);
}
