/** Prepares the corpus of a run, if it is not yet, and tells how far that is. */

import { basename } from 'node:path';
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

interface DatasetOptions extends Pick<PrepareOptions, 'changedText' | 'force'> {
  readonly logSources?: boolean;
}

/**
 * @param logSources whether it is logged what a fresh corpus was made of; not where the caller shows it
 * @param options where the text has changed since it was prepared, a run keeps the tokens, and is told
 * @throws the coded errors of `prepareData`; SLUICE_E_INTERRUPTED
 */
export async function prepareDataset(
  recipe: string,
  log: (line: string) => void,
  { logSources = true, ...options }: DatasetOptions = {},
): Promise<PrepareSummary> {
  // Nothing is said of a corpus that is there: opening its sources is all that happens, and quick.
  let shownAt = performance.now();
  let stage: PrepareProgress['stage'] = 'sources';
  const onProgress = (progress: PrepareProgress) => {
    const now = performance.now();
    if (progress.stage === stage && now - shownAt < PROGRESS_EVERY_MS) return;
    stage = progress.stage;
    shownAt = now;
    log(`data: ${progressLine(progress)}`);
  };
  const summary = await interruptible(async (signal) => {
    const prepared = await prepareData(recipe, {
      ...dataRoots(),
      signal,
      onProgress,
      changedText: 'keep',
      ...options,
    });
    // Even where nothing was left to prepare, the run that is to follow is not wanted any more.
    signal.throwIfAborted();
    return prepared;
  });
  for (const note of summary.notes) log(`data: ${note}`);
  if (summary.fresh) log(`data: ${datasetLine(summary)}`);
  if (summary.fresh && logSources) for (const line of sourceLines(summary)) log(`data: ${line}`);
  const note = TEXT_NOTES[summary.text]?.(recipe);
  if (note !== undefined) log(`data: ${note}`);
  return summary;
}

export function datasetLine(summary: PrepareSummary): string {
  return (
    `${summary.name}: ${count(summary.documents, 'document')}, ${formatCount(summary.trainTokens)} tokens to train on, ` +
    `${formatCount(summary.validationTokens)} to validate, vocabulary ${formatCount(summary.vocabularySize)}`
  );
}

/** What each source gave and what of it was not read, a line or two a source. */
export function sourceLines({ sources }: Pick<PrepareSummary, 'sources'>): string[] {
  return sources.flatMap((source) => {
    const { label, files, passedOver } = source;
    const shown = passedOver.slice(0, PASSED_OVER_SHOWN).map(({ name, reason }) => `${name} (${reason})`);
    const more = passedOver.length - shown.length;
    if (more > 0) shown.push(`and ${formatCount(more)} more, listed in sources.json`);
    const left = leftOut(source);
    return [
      `  ${label}: ${files.length === 0 ? 'needs no files' : `${count(files.length, 'file')} read (${endings(files)})`}`,
      ...(passedOver.length > 0
        ? [`    ${count(passedOver.length, 'entry', 'entries')} passed over: ${shown.join(', ')}`]
        : []),
      ...(left.length > 0 ? [`    ${left.join(', ')}`] : []),
    ];
  });
}

const PASSED_OVER_SHOWN = 5;

function leftOut(source: PrepareSummary['sources'][number]): string[] {
  const { nullRecords, missingRecords, blankDocuments, invalidSequences } = source;
  return [
    ...(nullRecords > 0 ? [`${count(nullRecords, 'record')} with null passed over`] : []),
    ...(missingRecords > 0 ? [`${count(missingRecords, 'record')} without the field passed over`] : []),
    ...(blankDocuments > 0 ? [`${count(blankDocuments, 'blank document')} passed over`] : []),
    ...(invalidSequences > 0
      ? [`${count(invalidSequences, 'sequence')} of bytes that are no text replaced or dropped`]
      : []),
  ];
}

/** How many files have which ending: `3 .jsonl, 1 .jsonl.zst`. */
function endings(files: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const file of files) {
    const ending = /(\.[a-z][a-z0-9]*){0,2}$/i.exec(basename(file))![0].toLowerCase() || 'no ending';
    counts.set(ending, (counts.get(ending) ?? 0) + 1);
  }
  return [...counts].map(([ending, number]) => `${formatCount(number)} ${ending}`).join(', ');
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${formatCount(number)} ${number === 1 ? one : many}`;
}

function progressLine({ stage, documents, bytes, totalBytes, tokens }: PrepareProgress): string {
  if (documents === 0) return STAGES[stage];
  const share = totalBytes > 0 ? ` (${Math.min(100, Math.round((100 * bytes) / totalBytes))} %)` : '';
  const encoded = tokens > 0 ? `, ${formatCount(tokens)} tokens` : '';
  return `${STAGES[stage]}: ${count(documents, 'document')}, ${formatBytes(bytes)}${share}${encoded}`;
}
