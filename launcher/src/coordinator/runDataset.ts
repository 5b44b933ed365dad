/** The corpus of a run that goes on: the very one that it was trained on, whatever has become of its recipe and its text. */

import { basename, join } from 'node:path';
import { SluiceError } from '@sluice/core';
import {
  findPrepared,
  listPrepared,
  loadRecipe,
  type PreparedCorpus,
  type PreparedEntry,
  type PrepareSummary,
  readSourceReport,
  recipeHash,
} from '@sluice/data';
import { dataRoots } from '../run/dataRoot.ts';
import { shellQuote } from '../run/runDirectory.ts';
import { prepareDataset } from './dataset.ts';

export interface RunDatasetOptions {
  readonly recipe: string;
  /** Hash that names the corpus; undefined where nothing is known of it. */
  readonly datasetHash: string | undefined;
  /** Whether another recipe was named than the run had. */
  readonly isOtherRecipe?: boolean | undefined;
}

/**
 * Finds a run's corpus among those that were prepared, or prepares it where it is not there. No corpus is replaced by another,
 * nor one that is damaged or of another version: whoever wants that prepares it himself.
 * @throws SLUICE_E_DATASET_CHANGED; the coded errors of `prepareDataset`, when the corpus is not there
 */
export async function runDataset(
  { recipe, datasetHash, isOtherRecipe = false }: RunDatasetOptions,
  log: (line: string) => void,
): Promise<PrepareSummary> {
  if (datasetHash === undefined) return prepareDataset(recipe, log);
  const { outputRoot } = dataRoots();
  const described = describeRecipe(recipe);
  const inPlace = listPrepared(outputRoot).find(({ directory }) => basename(directory) === described?.name);
  const isInPlace = isCorpus(inPlace) && inPlace.manifestHash === datasetHash;
  const found = isInPlace ? inPlace : findPrepared(outputRoot, datasetHash);
  if (found) {
    const isDescribed = described?.name === found.name && described.hash === found.recipeHash;
    if (isDescribed && isInPlace) return prepareThe(datasetHash, recipe, log);
    if (described && !isDescribed && isOtherRecipe) throw changed(datasetHash, `${recipe} describes another`);
    const why = isDescribed
      ? `${join(outputRoot, found.name)} does not hold the corpus that the run was trained on; it is there`
      : `the recipe ${recipe} ${described ? 'has changed' : 'is gone'}; the corpus that the run was trained on is there`;
    log(`data: ${why}: ${found.directory}`);
    const sources = readSourceReport(found.directory);
    return { ...found, fresh: false, text: 'untold', sources, notes: [] };
  }
  if (isCorpus(inPlace)) {
    throw changed(datasetHash, `${inPlace.directory} now holds ${inPlace.manifestHash}`, inPlace);
  }
  if (inPlace) {
    const reason = inPlace.problem.message.replace(/\.$/, '');
    throw changed(
      datasetHash,
      `${inPlace.directory} holds what cannot be used (${reason}). To replace it: sluice data prepare ${shellQuote(recipe)}`,
    );
  }
  return prepareThe(datasetHash, recipe, log);
}

/** Prepares a recipe whose corpus must be a certain one. */
async function prepareThe(
  datasetHash: string,
  recipe: string,
  log: (line: string) => void,
): Promise<PrepareSummary> {
  const prepared = await prepareDataset(recipe, log);
  if (prepared.manifestHash === datasetHash) return prepared;
  throw changed(datasetHash, `the recipe now gives ${prepared.manifestHash}`, prepared);
}

function isCorpus(entry: PreparedEntry | undefined): entry is PreparedCorpus {
  return entry !== undefined && 'manifestHash' in entry;
}

/** What a recipe describes; undefined where it cannot be read. */
function describeRecipe(path: string): { readonly name: string; readonly hash: string } | undefined {
  try {
    const { recipe } = loadRecipe(path);
    return { name: recipe.name, hash: recipeHash(recipe) };
  } catch (error) {
    if (error instanceof SluiceError) return undefined;
    throw error;
  }
}

function changed(saved: string, how: string, now?: PreparedCorpus): SluiceError {
  return new SluiceError(
    'SLUICE_E_DATASET_CHANGED',
    `The run was trained on the corpus ${saved}, but ${how}.`,
    { details: { saved, now: now?.manifestHash ?? null } },
  );
}
