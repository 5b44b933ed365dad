/** Prepares the corpus of a run, if it is not yet, and tells how far that is. */

import {
  type PrepareOptions,
  type PrepareProgress,
  type PrepareSummary,
  prepareData,
  type TextState,
} from '@sluice/data';
import { formatBytes, formatCount } from '@sluice/observe';
import { dataRoots } from '../run/dataRoot.ts';
import { interruptible } from '../signals/interruptible.ts';

const PROGRESS_EVERY_MS = 2_000;

const STAGES: Readonly<Record<PrepareProgress['stage'], string>> = {
  sources: 'opening the sources',
  compare: 'comparing the text with what was prepared',
  words: 'reading words for the tokenizer',
  merges: 'finding the merges of the tokenizer',
  encode: 'encoding',
};

/** What is to be known of a text that is not, or may not be, what the corpus was prepared from. */
const TEXT_NOTES: Readonly<Record<TextState, ((recipe: string) => string) | undefined>> = {
  same: undefined,
  gone: (recipe) => `the text of ${recipe} is gone; its tokens, as they were prepared, are all there`,
  changed: (recipe) =>
    `the text of ${recipe} has changed since; its tokens are taken as they were prepared. To prepare them anew: sluice data prepare ${recipe}`,
  untold: (recipe) =>
    `files of ${recipe} were touched since; its tokens are taken as they were prepared. To compare the text, and prepare it anew if it has changed: sluice data prepare ${recipe}`,
};

/**
 * @param options where the text has changed since it was prepared, a run keeps the tokens, and is told
 * @throws the coded errors of `prepareData`; SLUICE_E_INTERRUPTED
 */
export async function prepareDataset(
  recipe: string,
  log: (line: string) => void,
  options: Pick<PrepareOptions, 'changedText' | 'force'> = { changedText: 'keep' },
): Promise<PrepareSummary> {
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
    const prepared = await prepareData(recipe, { ...dataRoots(), signal, onProgress, ...options });
    // Even where nothing was left to prepare, the run that is to follow is not wanted any more.
    signal.throwIfAborted();
    return prepared;
  });
  if (summary.fresh) log(`data: ${datasetLine(summary)}`);
  const note = TEXT_NOTES[summary.text]?.(recipe);
  if (note !== undefined) log(`data: ${note}`);
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
