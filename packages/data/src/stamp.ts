/**
 * The stamp of a preparation: from which recipe and which state of the sources it was made. It tells quickly whether
 * anything would change, and is no part of the corpus: machines with equal text have equal manifests, not equal stamps.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sha256 } from '@sluice/core';
import { PREPARATION_VERSION, STAMP_FILE } from './manifest.ts';
import type { DataRecipe } from './recipe.ts';
import type { SourceFile, TextSourceReader } from './sources/source.ts';

/** The hash of a recipe's meaning: its values with all defaults, but not its description. */
export function recipeHash(recipe: DataRecipe): string {
  const { description: _, ...meaning } = recipe;
  return sha256(JSON.stringify(meaning));
}

/** Everything that a preparation depends on, by size and time of change, in one hash. */
export function makeStamp(
  recipe: DataRecipe,
  sources: readonly TextSourceReader[],
  tokenizer: SourceFile | null,
): string {
  const state = ({ name, size, modified }: SourceFile): unknown[] => [name, size, modified];
  return sha256(
    JSON.stringify([
      PREPARATION_VERSION,
      recipeHash(recipe),
      sources.map(({ files }) => files.map(state)),
      tokenizer && state(tokenizer),
    ]),
  );
}

export function writeStamp(directory: string, stamp: string): void {
  writeFileSync(join(directory, STAMP_FILE), `${JSON.stringify({ stamp })}\n`);
}

/** The stamp in a directory, or null when it has none. */
export function readStamp(directory: string): string | null {
  try {
    return (JSON.parse(readFileSync(join(directory, STAMP_FILE), 'utf8')) as { stamp: string }).stamp;
  } catch {
    return null;
  }
}
