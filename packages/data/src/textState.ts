/** Whether the text that a recipe names is still what its corpus was prepared from. */

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { SluiceError, sha256 } from '@sluice/core';
import { readDocuments, SourceTally } from './documents.ts';
import type { DatasetManifest } from './manifest.ts';
import type { PrepareOptions } from './prepareOptions.ts';
import type { LoadedRecipe } from './recipe.ts';
import { estimateUnpacked } from './sources/compression.ts';
import { sourceFile } from './sources/files.ts';
import { openSources } from './sources/open.ts';
import type { TextSourceReader } from './sources/source.ts';
import { makeStamp, readStamp, writeStamp } from './stamp.ts';
import { tokenizerFile } from './tokenizer/load.ts';

/** `untold`: files were touched, and are too many to be read for an answer that changes nothing. */
export type TextState = 'same' | 'changed' | 'gone' | 'untold';

export interface ComparedText {
  readonly text: TextState;
  /** Readers of the text, where it is the same. */
  readonly sources?: readonly TextSourceReader[];
}

/** Where tokens are kept anyway, no more than so much text is read to tell what has become of it. */
const MOST_COMPARED_BYTES = 2 ** 30;

/**
 * Sizes and times of change tell at once; where they differ, as after a copy or a checkout, the text itself is read and
 * compared with the hashes of the manifest. Nothing is downloaded.
 * @throws the signal's reason
 */
export async function compareText(
  loaded: LoadedRecipe,
  directory: string,
  manifest: DatasetManifest,
  options: PrepareOptions,
): Promise<ComparedText> {
  const { downloadRoot = 'data/downloads', signal, changedText } = options;
  try {
    const sources = await openSources(loaded, { downloadRoot, signal, download: false });
    const stamp = makeStamp(loaded.recipe, sources, givenTokenizer(loaded));
    if (readStamp(directory) === stamp) return { text: 'same', sources };
    if (changedText === 'keep' && estimateUnpacked(sources) > MOST_COMPARED_BYTES) return { text: 'untold' };
    if (!(await isSameText(loaded, sources, manifest, options))) return { text: 'changed' };
    stampAgain(directory, stamp);
    return { text: 'same', sources };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof SluiceError)) throw error;
    // What is there cannot be read as what it was: then it has changed.
    return { text: GONE.has(error.code) ? 'gone' : 'changed' };
  }
}

const GONE: ReadonlySet<string> = new Set(['SLUICE_E_FILE_MISSING', 'SLUICE_E_DATA_EMPTY']);

/** The file of a recipe's tokenizer, if it names one. */
export function givenTokenizer({ recipe, resolve }: LoadedRecipe) {
  if (recipe.tokenizer.kind !== 'file') return null;
  const file = tokenizerFile(resolve(recipe.tokenizer.path));
  return sourceFile(file, basename(file));
}

async function isSameText(
  loaded: LoadedRecipe,
  sources: readonly TextSourceReader[],
  manifest: DatasetManifest,
  { signal, onProgress }: PrepareOptions,
): Promise<boolean> {
  const tokenizer = givenTokenizer(loaded);
  if (tokenizer && sha256(readFileSync(tokenizer.path)) !== manifest.tokenizer.sha256) return false;
  const tallies = sources.map(() => new SourceTally());
  const progress = { documents: 0, bytes: 0, tokens: 0, totalBytes: estimateUnpacked(sources) };
  for await (const part of readDocuments(sources, loaded.recipe.validation, signal)) {
    tallies[part.source]!.add(part);
    progress.bytes += part.bytes;
    if (part.last) progress.documents++;
    onProgress?.({ stage: 'compare', ...progress });
  }
  const hashes = manifest.sources.map(({ sha256: hash }) => hash);
  return tallies.length === hashes.length && tallies.every((tally, i) => tally.digest() === hashes[i]);
}

/** So that the text is not read again next time. A corpus that cannot be written to can be read all the same. */
function stampAgain(directory: string, stamp: string): void {
  try {
    writeStamp(directory, stamp);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
  }
}
