/** Whether a run can train and validate on a corpus. All is found before any process starts. */

import { openDataset, type PreparedCorpus } from '@sluice/data';
import type { RunConfig } from '@sluice/train';

/** Whether a run on this corpus has something to validate on. */
export function holdsOut({ validationTokens }: Pick<PreparedCorpus, 'validationTokens'>): boolean {
  return validationTokens > 0;
}

/**
 * Makes sure that each split has a sequence; only the validation split may be missing.
 * @param corpus directory of the prepared corpus
 * @returns what is to be said of the splits
 * @throws SLUICE_E_DATA_TOO_SMALL, SLUICE_E_DATA_SPLIT_EMPTY
 */
export function checkSplits({ data, batch, seed }: RunConfig, corpus: string): string[] {
  const dataset = openDataset(corpus);
  try {
    const sequencesOf = (split: 'train' | 'validation') =>
      dataset.sampler({ ...data, split, seed }).numSequences;
    const notes: string[] = [];
    const training = sequencesOf('train');
    if (training < batch.sequences) {
      notes.push(
        `the training split has ${training} sequences, fewer than a batch of ${batch.sequences}: one batch holds some of them more than once`,
      );
    }
    if (dataset.holdsOut) sequencesOf('validation');
    else notes.push(`no validation: the corpus ${dataset.manifest.name} holds nothing out`);
    return notes;
  } finally {
    dataset.close();
  }
}
