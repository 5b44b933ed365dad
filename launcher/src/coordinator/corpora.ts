/** The corpora that a run reads: that of its recipe, or those of its mixture. */

import { SluiceError } from '@sluice/core';
import {
  type DataConfig,
  joinHashes,
  loadRecipe,
  type PrepareSummary,
  recipesOf,
  splitHashes,
} from '@sluice/data';
import { prepareDataset } from './dataset.ts';
import { runDataset } from './runDataset.ts';

export interface RunCorpora {
  /** In the order of the recipes. */
  readonly corpora: readonly PrepareSummary[];
  /** Where each is prepared. */
  readonly directories: readonly string[];
  /** Names them all. */
  readonly datasetHash: string;
  readonly vocabularySize: number;
  readonly validationTokens: number;
  /** Of a run on one corpus; null for a mixture. */
  readonly unigramLoss: number | null;
}

type Recipes = Pick<DataConfig, 'recipe' | 'mixture'>;

/**
 * Prepares the corpora of a new run, as far as they are not yet.
 * @throws SLUICE_E_MIXTURE_TWICE, and the coded errors of `prepareDataset`
 */
export async function prepareCorpora(data: Recipes, log: (line: string) => void): Promise<RunCorpora> {
  refuseTwice(recipesOf(data));
  const corpora: PrepareSummary[] = [];
  for (const recipe of recipesOf(data)) corpora.push(await prepareDataset(recipe, log));
  return together(corpora);
}

export interface KnownCorpora {
  readonly data: Recipes;
  /** What names the corpora of the run; undefined where nothing is known of them. */
  readonly datasetHash: string | undefined;
  /** Whether other recipes were named than the run had. */
  readonly isOtherRecipe?: boolean | undefined;
}

/**
 * Finds the corpora of a run that goes on, each as `runDataset` does.
 * @throws SLUICE_E_DATASET_CHANGED, and the errors of `runDataset`
 */
export async function findCorpora(
  { data, datasetHash, isOtherRecipe }: KnownCorpora,
  log: (line: string) => void,
): Promise<RunCorpora> {
  const recipes = recipesOf(data);
  const hashes = datasetHash === undefined ? [] : splitHashes(datasetHash);
  if (datasetHash !== undefined && hashes.length !== recipes.length) {
    throw new SluiceError(
      'SLUICE_E_DATASET_CHANGED',
      `The run was trained on ${hashes.length} corpora (${datasetHash}), but ${recipes.length} recipes are named.`,
      { details: { saved: datasetHash, recipes } },
    );
  }
  const corpora: PrepareSummary[] = [];
  for (const [i, recipe] of recipes.entries()) {
    corpora.push(await runDataset({ recipe, datasetHash: hashes[i], isOtherRecipe }, log));
  }
  return together(corpora);
}

function together(corpora: readonly PrepareSummary[]): RunCorpora {
  const [first, ...others] = corpora;
  return {
    corpora,
    directories: corpora.map(({ directory }) => directory),
    datasetHash: joinHashes(corpora.map(({ manifestHash }) => manifestHash)),
    vocabularySize: Math.max(...corpora.map(({ vocabularySize }) => vocabularySize)),
    validationTokens: corpora.reduce((sum, { validationTokens }) => sum + validationTokens, 0),
    unigramLoss: others.length === 0 ? first!.unigramLoss : null,
  };
}

/** One would be prepared in the other's place. */
function refuseTwice(recipes: readonly string[]): void {
  if (recipes.length === 1) return;
  const byName = new Map<string, string>();
  for (const path of recipes) {
    const { name } = loadRecipe(path).recipe;
    const other = byName.get(name);
    if (other !== undefined) {
      throw new SluiceError('SLUICE_E_MIXTURE_TWICE', `${other} and ${path} both have the name ${name}.`, {
        details: { recipes: [other, path], name },
      });
    }
    byName.set(name, path);
  }
}
