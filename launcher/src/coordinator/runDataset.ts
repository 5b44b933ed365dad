/** The corpus of a run that goes on: the very one that it was trained on, whatever has become of its recipe and its text. */

import { SluiceError } from '@sluice/core';
import {
  listPrepared,
  loadRecipe,
  type PreparedCorpus,
  type PrepareSummary,
  readSourceReport,
  recipeHash,
} from '@sluice/data';
import { dataRoots } from '../run/dataRoot.ts';
import { prepareDataset } from './dataset.ts';

export interface RunDatasetOptions {
  readonly recipe: string;
  /** Hash that names the corpus; undefined where nothing is known of it. */
  readonly datasetHash: string | undefined;
  /** Whether another recipe was named than the run had. */
  readonly isOtherRecipe?: boolean;
}

/**
 * Finds a run's corpus among those that were prepared, or prepares it where it is not there. No corpus is replaced by another.
 * @throws SLUICE_E_DATASET_CHANGED; the coded errors of `prepareDataset`, when the corpus is not there
 */
export async function runDataset(
  { recipe, datasetHash, isOtherRecipe = false }: RunDatasetOptions,
  log: (line: string) => void,
): Promise<PrepareSummary> {
  if (datasetHash === undefined) return prepareDataset(recipe, log);
  const corpora = listPrepared(dataRoots().outputRoot).flatMap((entry) =>
    'problem' in entry ? [] : [entry],
  );
  const found = corpora.find(({ manifestHash }) => manifestHash === datasetHash);
  const described = describeRecipe(recipe);
  if (found) {
    if (described?.name === found.name && described.hash === found.recipeHash)
      return prepareDataset(recipe, log);
    if (described && isOtherRecipe) throw changed(datasetHash, `${recipe} describes another`);
    log(
      `data: the recipe ${recipe} ${described ? 'has changed' : 'is gone'}; the corpus that the run was trained on is there: ${found.directory}`,
    );
    const sources = readSourceReport(found.directory);
    return { ...found, fresh: false, text: 'untold', sources, notes: [] };
  }
  const other = corpora.find(({ name }) => name === described?.name);
  if (other) throw changed(datasetHash, `${other.directory} now holds ${other.manifestHash}`, other);
  const prepared = await prepareDataset(recipe, log);
  if (prepared.manifestHash === datasetHash) return prepared;
  throw changed(datasetHash, `the recipe now gives ${prepared.manifestHash}`, prepared);
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
    {
      details: { saved, now: now?.manifestHash ?? null },
    },
  );
}
