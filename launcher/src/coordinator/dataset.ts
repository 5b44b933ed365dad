/** Prepares the corpus of a run, if it is not yet, and tells how far that is. */

import { resolve } from 'node:path';
import { type PrepareProgress, type PrepareSummary, prepareData } from '@sluice/data';
import { formatBytes, formatCount } from '@sluice/observe';

const PROGRESS_EVERY_MS = 2_000;

const STAGES: Readonly<Record<PrepareProgress['stage'], string>> = {
  sources: 'opening the sources',
  words: 'reading words for the tokenizer',
  merges: 'finding the merges of the tokenizer',
  encode: 'encoding',
};

/** @throws the coded errors of `prepareData` */
export async function prepareDataset(recipe: string, log: (line: string) => void): Promise<PrepareSummary> {
  let shownAt = 0;
  let stage: PrepareProgress['stage'] | undefined;
  const summary = await prepareData(recipe, {
    onProgress(progress) {
      const now = Date.now();
      if (progress.stage === stage && now - shownAt < PROGRESS_EVERY_MS) return;
      stage = progress.stage;
      shownAt = now;
      log(`data: ${progressLine(progress)}`);
    },
  });
  if (summary.fresh) log(`data: ${datasetLine(summary)}`);
  // Workers and later commands may start elsewhere.
  return { ...summary, directory: resolve(summary.directory) };
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
