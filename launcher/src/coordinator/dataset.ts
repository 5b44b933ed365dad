/** Prepares the corpus of a run, if it is not yet, and tells how far that is. */

import { type PrepareProgress, type PrepareSummary, prepareData } from '@sluice/data';
import { formatBytes, formatCount } from '@sluice/observe';
import { dataRoots } from '../run/dataRoot.ts';
import { interruptible } from '../signals/interruptible.ts';

const PROGRESS_EVERY_MS = 2_000;

const STAGES: Readonly<Record<PrepareProgress['stage'], string>> = {
  sources: 'opening the sources',
  words: 'reading words for the tokenizer',
  merges: 'finding the merges of the tokenizer',
  encode: 'encoding',
};

/** @throws the coded errors of `prepareData`; SLUICE_E_INTERRUPTED */
export async function prepareDataset(recipe: string, log: (line: string) => void): Promise<PrepareSummary> {
  // Nothing is said of a corpus that is there: opening its sources is all that happens, and quick.
  let shownAt = Date.now();
  let stage: PrepareProgress['stage'] = 'sources';
  const onProgress = (progress: PrepareProgress) => {
    const now = Date.now();
    if (progress.stage === stage && now - shownAt < PROGRESS_EVERY_MS) return;
    stage = progress.stage;
    shownAt = now;
    log(`data: ${progressLine(progress)}`);
  };
  const summary = await interruptible(async (signal) => {
    const prepared = await prepareData(recipe, { ...dataRoots(), signal, onProgress });
    // Even where nothing was left to prepare, the run that is to follow is not wanted any more.
    signal.throwIfAborted();
    return prepared;
  });
  if (summary.fresh) log(`data: ${datasetLine(summary)}`);
  return summary;
}

export function datasetLine(summary: PrepareSummary): string {
  return (
    `${summary.name}: ${formatCount(summary.documents)} documents, ${formatCount(summary.trainTokens)} tokens to train on, ` +
    `${formatCount(summary.validationTokens)} to validate, vocabulary ${formatCount(summary.vocabularySize)}`
  );
}

function progressLine({ stage, documents, bytes, totalBytes, tokens }: PrepareProgress): string {
  if (documents === 0) return STAGES[stage];
  const share = totalBytes > 0 ? ` (${Math.min(100, Math.round((100 * bytes) / totalBytes))} %)` : '';
  const encoded = tokens > 0 ? `, ${formatCount(tokens)} tokens` : '';
  return `${STAGES[stage]}: ${formatCount(documents)} documents, ${formatBytes(bytes)}${share}${encoded}`;
}
