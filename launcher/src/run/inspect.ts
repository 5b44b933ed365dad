/** What is in a run directory, and what the batch of one step held. */

import { listCheckpoints, verifyEntry } from '@sluice/checkpoint';
import { SluiceError } from '@sluice/core';
import { openRunData } from '@sluice/data';
import {
  formatLoss,
  readMetrics,
  type StepRecord,
  type SupersededSteps,
  supersededRecords,
  supersededSteps,
} from '@sluice/observe';
import { type RunConfig, samplesBefore, sequencesAt } from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { findCorpora } from '../coordinator/corpora.ts';
import { checkpointHistory } from './checkpointHistory.ts';
import { type JournalEntry, readJournal, startOf } from './journal.ts';
import { lockOwner } from './lock.ts';
import { loadRunConfig } from './runConfig.ts';
import { existingRun, type RunDirectory } from './runDirectory.ts';

/** Entries of the journal that are shown to people; JSON has all. */
const SHOWN_ENTRIES = 20;

/** @throws SLUICE_E_FILE_MISSING, SLUICE_E_RUN_MISSING, SLUICE_E_JOURNAL_DAMAGED */
export async function inspectRun(path: string): Promise<CommandResult> {
  const run = existingRun(path);
  const journal = readJournal(run.journal);
  const checkpoints = await describeCheckpoints(run, journal);
  const superseded = await supersededSteps(run.path);
  const spikes = journal.filter((entry) => entry.kind === 'spike');
  const owner = lockOwner(run.lock);
  const last = await lastRecord(run);
  const inUse = owner?.alive === true;
  const lines = [
    `run ${run.path}${inUse ? `, in use by process ${owner.pid} on ${owner.host}` : ''}`,
    last ? `last step ${last.step}, loss ${formatLoss(last.loss)}` : 'no step yet',
    '',
    'checkpoints',
    ...(checkpoints.length === 0 ? ['  none'] : checkpoints.map(checkpointLine)),
    '',
    ...(superseded.length === 0 ? [] : ['superseded steps', ...superseded.map(supersededLine), '']),
    `journal${journal.length > SHOWN_ENTRIES ? ` (last ${SHOWN_ENTRIES} of ${journal.length})` : ''}`,
    ...journal.slice(-SHOWN_ENTRIES).map(journalLine),
    '',
    'spikes',
    ...(spikes.length === 0 ? ['  none'] : spikes.map(journalLine)),
  ];
  return {
    text: lines.join('\n'),
    json: { runDir: run.path, step: last?.step ?? 0, inUse, checkpoints, superseded, journal, spikes },
  };
}

/**
 * The documents and shards of the batch of one step, and its loss as far as that step was recorded.
 * @throws SLUICE_E_USAGE for a step beyond the run's, and what `inspectRun` throws
 */
export async function inspectStep(
  path: string,
  step: number,
  log: (line: string) => void,
): Promise<CommandResult> {
  const run = existingRun(path);
  const config = loadRunConfig(run.config, {});
  if (step > config.training.steps) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `--step is ${step}, but the run has ${config.training.steps} steps.`,
      {
        details: { step, steps: config.training.steps },
      },
    );
  }
  const { datasetHash } = startOf(readJournal(run.journal)) ?? {};
  const { directories } = await findCorpora({ data: config.data, datasetHash }, log);
  const sequences = sequencesOf(config, directories, step);
  const record = await recordOf(run, step);
  const before = await supersededRecords(run.path, step);
  const lines = sequences.flatMap(({ sample, corpus, epoch, sequence, shards, documents }) => [
    `sample ${sample}: ${corpus === undefined ? '' : `${corpus}, `}sequence ${sequence} of epoch ${epoch}, ${shards.map(shardText).join(', ')}`,
    ...documents.map((document) => `  ${document.source} ${document.name} (document ${document.index})`),
  ]);
  const loss = record ? `loss ${formatLoss(record.loss)}` : 'not recorded';
  return {
    text: [
      `step ${step}: ${loss}`,
      ...before.map(
        ({ file, record: { loss } }) => `  loss ${formatLoss(loss)} before it was superseded (${file})`,
      ),
      ...lines,
    ].join('\n'),
    json: {
      runDir: run.path,
      step,
      loss: record?.loss ?? null,
      gradientNorm: record?.gradientNorm ?? null,
      superseded: before.map(({ file, record: { loss, gradientNorm } }) => ({ file, loss, gradientNorm })),
      sequences,
    },
  };
}

/** Where the sequences of a step's batch lie in the corpus. */
function sequencesOf(config: RunConfig, directories: readonly string[], step: number) {
  const { data, seed } = config;
  const opened = openRunData(data, seed, directories);
  try {
    // Samples are numbered over the whole run.
    const first = samplesBefore(config, step);
    return Array.from({ length: sequencesAt(config, step) }, (_, index) => {
      const sample = first + index;
      return { sample, ...opened.train.provenance(sample) };
    });
  } finally {
    opened.close();
  }
}

interface CheckpointDescription {
  readonly step: number;
  readonly path: string;
  readonly valid: boolean;
  readonly problems: readonly string[];
  /** Why `resume` passes it over though its files are those that were saved. */
  readonly distrust: string | null;
  readonly weights: string | null;
}

async function describeCheckpoints(
  run: RunDirectory,
  journal: readonly JournalEntry[],
): Promise<CheckpointDescription[]> {
  const { distrust } = checkpointHistory(journal);
  const described: CheckpointDescription[] = [];
  for (const entry of await listCheckpoints(run.path)) {
    const { step, directory } = entry;
    const { valid, problems, manifest } = await verifyEntry(entry, { deep: true });
    described.push({
      step,
      path: directory,
      valid,
      problems: problems.map((problem) => problem.message),
      distrust: distrust.get(step) ?? null,
      weights: manifest?.hashes.weights ?? null,
    });
  }
  return described;
}

function checkpointLine({ step, valid, problems, distrust, weights, path }: CheckpointDescription): string {
  const intact = distrust === null ? 'valid' : `not gone on from: ${distrust}`;
  const state = valid ? `${intact}, weights ${weights}` : `not valid: ${problems.join('; ')}`;
  return `  step ${step}: ${state} (${path})`;
}

function supersededLine({ file, first, last }: SupersededSteps): string {
  return `  steps ${first} to ${last}: ${file}`;
}

function journalLine({ time, kind, step, ...fields }: JournalEntry): string {
  return `  ${time}  step ${step}  ${kind}  ${JSON.stringify(fields)}`;
}

function shardText(shard: { readonly file: string; readonly start: number; readonly end: number }): string {
  return `${shard.file}[${shard.start}, ${shard.end})`;
}

async function lastRecord(run: RunDirectory): Promise<StepRecord | undefined> {
  let last: StepRecord | undefined;
  for await (const record of readMetrics(run.metrics)) last = record;
  return last;
}

async function recordOf(run: RunDirectory, step: number): Promise<StepRecord | undefined> {
  for await (const record of readMetrics(run.metrics)) if (record.step === step) return record;
  return undefined;
}
