/** The tokenizer in a run's directory: copied there at the run's beginning, so that the run is whole without its corpus. */

import { existsSync } from 'node:fs';
import {
  copyTokenizer,
  type LocatedTokenizer,
  type TokenizerRecord,
  verifyTokenizer,
} from '@sluice/checkpoint/huggingface';
import { openDataset } from '@sluice/data';
import type { RunConfig } from '@sluice/train';
import { tokenizerOfWeights } from './initialWeights.ts';
import type { RunDirectory } from './runDirectory.ts';

/**
 * Copies the files by which the tokens of a new run are text. A run that begins with a Hugging Face model takes that
 * model's, with its chat templates and settings of generation; every other one takes the corpus's.
 * @param corpus directory of the prepared corpus, whose tokenizer is that of the weights
 * @throws SLUICE_E_HF_LFS_POINTER, SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export async function adoptTokenizer(
  run: RunDirectory,
  { initialize: { from } }: Pick<RunConfig, 'initialize'>,
  corpus: string,
): Promise<TokenizerRecord> {
  const dataset = openDataset(corpus);
  dataset.close();
  const theirs = from === undefined ? undefined : await tokenizerOfWeights(from);
  if (!theirs || !isWhole(theirs)) return { files: await copyTokenizer(corpus, run.tokenizer) };
  return {
    files: await copyTokenizer(theirs.folder, run.tokenizer),
    tokenKeys: theirs.tokenKeys,
    endOfText: dataset.endOfText,
  };
}

function isWhole(tokenizer: LocatedTokenizer): boolean {
  return tokenizer.path !== undefined && tokenizer.tokenKeys !== undefined;
}

/**
 * The tokenizer of a run that goes on, as it was when it began. A run that began before runs had their own takes the corpus's,
 * and so does one that had taken it and whose folder is gone.
 * @param saved what the run knows of it
 * @throws SLUICE_E_TOKENIZER_CHANGED, SLUICE_E_TOKENIZER_MISSING, and the errors of `adoptTokenizer`
 */
export async function keptTokenizer(
  run: RunDirectory,
  saved: TokenizerRecord | undefined,
  corpus: string,
): Promise<TokenizerRecord> {
  const isLost = !existsSync(run.tokenizer);
  if (!saved || (isLost && !saved.tokenKeys)) return { files: await copyTokenizer(corpus, run.tokenizer) };
  await verifyTokenizer(run.tokenizer, saved.files);
  return saved;
}
