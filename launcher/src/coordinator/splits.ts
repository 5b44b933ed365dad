/** Whether a run can train and validate on its corpora. All is found before any process starts. */

import { openDataset, openRunData } from '@sluice/data';
import type { RunConfig } from '@sluice/train';
import type { RunCorpora } from './corpora.ts';

/** Whether a run on these corpora has something to validate on. */
export function holdsOut({ validationTokens }: Pick<RunCorpora, 'validationTokens'>): boolean {
  return validationTokens > 0;
}

/**
 * Makes sure that each split has a sequence; only the validation split may be missing.
 * @param directories of the prepared corpora
 * @returns what is to be said of the splits
 * @throws SLUICE_E_DATA_TOO_SMALL, SLUICE_E_DATA_SPLIT_EMPTY, SLUICE_E_TOKEN_UNKNOWN, SLUICE_E_MIXTURE_TOKENIZER
 */
export function checkSplits({ data, batch, seed }: RunConfig, directories: readonly string[]): string[] {
  const opened = openRunData(data, seed, directories);
  try {
    const notes: string[] = [];
    const { numSequences } = opened.train;
    if (numSequences < batch.sequences) {
      notes.push(
        `the training split has ${numSequences} sequences, fewer than a batch of ${batch.sequences}: one batch holds some of them more than once`,
      );
    }
    const held = opened.validation.map(({ name }) => name);
    for (const name of directories.map((directory) => openDataset(directory).manifest.name)) {
      if (held.includes(name)) continue;
      notes.push(
        data.mixture
          ? `no validation on the corpus ${name}: it holds nothing out`
          : `no validation: the corpus ${name} holds nothing out`,
      );
    }
    return notes;
  } finally {
    opened.close();
  }
}
