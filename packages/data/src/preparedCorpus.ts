/** Corpora that were prepared, as they are found below a folder. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { type LoadedManifest, loadManifest } from './manifest.ts';

export interface PreparedCorpus {
  readonly name: string;
  readonly directory: string;
  /** Names the recipe: equal values give an equal hash. */
  readonly recipeHash: string;
  /** Names the corpus: a run goes on only with the same one. */
  readonly manifestHash: string;
  readonly vocabularySize: number;
  readonly documents: number;
  readonly trainTokens: number;
  readonly validationTokens: number;
  readonly bytesPerToken: number;
  /** Validation loss of a model that knows token frequencies only, in nats a token; null without a validation split. */
  readonly unigramLoss: number | null;
}

/** A corpus that `listPrepared` found, or a folder that is none. */
export type PreparedEntry =
  | PreparedCorpus
  | { readonly name: string; readonly directory: string; readonly problem: SluiceError };

/** The corpora that were prepared below a folder, by name; damaged and unfinished ones are told with their problem. */
export function listPrepared(outputRoot = 'data/prepared'): PreparedEntry[] {
  if (!existsSync(outputRoot)) return [];
  const entries = readdirSync(outputRoot, { withFileTypes: true });
  const names = entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map(({ name }) => name);
  return names.sort().map((name) => {
    const directory = join(outputRoot, name);
    try {
      return summarize(directory, loadManifest(directory));
    } catch (error) {
      if (error instanceof SluiceError) return { name, directory, problem: error };
      throw error;
    }
  });
}

/** What a corpus is, by its manifest. */
export function summarize(directory: string, { manifest, manifestHash }: LoadedManifest): PreparedCorpus {
  const { train, validation } = manifest.splits;
  return {
    name: manifest.name,
    directory,
    recipeHash: manifest.recipeHash,
    manifestHash,
    vocabularySize: manifest.tokenizer.vocabularySize,
    documents: train.documents + validation.documents,
    trainTokens: train.tokens,
    validationTokens: validation.tokens,
    bytesPerToken: manifest.bytesPerToken,
    unigramLoss: manifest.unigramLoss,
  };
}
