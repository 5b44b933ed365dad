/** Goes on with a run: from which checkpoint, with which changes, and what of the files is from a future that is redone. */

import { isDeepStrictEqual } from 'node:util';
import { newestValidCheckpoint } from '@sluice/checkpoint';
import { TokenizerRecord } from '@sluice/checkpoint/huggingface';
import { parseConfig, SluiceError } from '@sluice/core';
import { MetricsLog, truncateDiagnosticsAfter } from '@sluice/observe';
import { RunConfig } from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { checkInitialWeights } from '../run/initialWeights.ts';
import { openJournal, readJournal } from '../run/journal.ts';
import { describeRefused, type RefusedCheckpoint, refusedLine } from '../run/locateCheckpoint.ts';
import { acquireLock } from '../run/lock.ts';
import { judgeChanges, keysAllowedBefore, refuseVainAllow } from '../run/resumeRules.ts';
import { freezeRunConfig, loadRunConfig } from '../run/runConfig.ts';
import { existingRun, type RunDirectory } from '../run/runDirectory.ts';
import { configFromRun, configInRun, pathInRun } from '../run/runPaths.ts';
import { keptTokenizer } from '../run/runTokenizer.ts';
import { validateConfig, validateVocabulary } from '../run/validate.ts';
import type { CommittedCheckpoint, SavedState } from './checkpoints.ts';
import { corpusOfRun } from './dataset.ts';
import { runSession } from './session.ts';
import { CoordinatorState } from './state.ts';
import { concludeRun, summarizeFinished } from './summary.ts';

export interface ResumeRunOptions {
  readonly run: string;
  readonly workers?: number | undefined;
  readonly allow?: readonly string[] | undefined;
  readonly set?: readonly string[] | undefined;
  readonly maxSteps?: number | undefined;
}

/**
 * Goes on with a run from its newest valid checkpoint, or from the beginning when it has none.
 * @throws SLUICE_E_RUN_IN_USE, SLUICE_E_RESUME_KEY_FIXED, SLUICE_E_RESUME_NEEDS_ALLOW, SLUICE_E_RESUME_ALLOW_INVALID,
 *   SLUICE_E_DATASET_CHANGED, and the coded errors of the configuration, the data, the checkpoints and the workers
 */
export async function resumeRun(
  options: ResumeRunOptions,
  log: (line: string) => void,
): Promise<CommandResult> {
  const run = existingRun(options.run);
  refuseVainAllow(options.allow ?? []);
  const lock = acquireLock(run.lock);
  try {
    return await resumeLocked(run, options, log);
  } finally {
    lock.release();
  }
}

async function resumeLocked(
  run: RunDirectory,
  options: ResumeRunOptions,
  log: (line: string) => void,
): Promise<CommandResult> {
  const { from, refused } = await startingPoint(run);
  for (const checkpoint of refused) log(refusedLine(checkpoint));

  const saved = configInRun(run.path, from?.config ?? loadRunConfig(run.config, {}));
  const config = loadRunConfig(run.config, options);
  const written = configInRun(run.path, config);
  const allow = [...(options.allow ?? []), ...keysAllowedBefore(readJournal(run.journal), written)];
  const changes = judgeChanges(saved, written, allow);
  validateConfig(config);
  const dataset = await corpusOfRun(run, config, log);
  refuseOtherDataset(run, from?.datasetHash, dataset.manifestHash);
  validateVocabulary(config.model.vocabularySize, dataset.vocabularySize);

  if (!from) await refuseOtherInitialWeights(run, config);

  const start = readJournal(run.journal).find((entry) => entry.kind === 'start');
  const tokenizer = await keptTokenizer(run, from?.tokenizer ?? start?.tokenizer, dataset.directory);

  const facts = { run, config, dataset };
  if (from && from.state.step >= config.training.steps) {
    return summarizeFinished(facts, from.state, from.checkpoint);
  }

  const step = from?.state.step ?? 0;
  const journal = openJournal(run.journal);
  try {
    journal.append('resume', step, {
      ...(from && { checkpoint: pathInRun(run.path, from.checkpoint.path) }),
      ...sizeOf(config),
      changes,
      refusedCheckpoints: refused.map((one) => ({ ...one, path: pathInRun(run.path, one.path) })),
    });
    const size = { from: sizeOf(saved), to: sizeOf(config) };
    if (!isDeepStrictEqual(size.from, size.to)) journal.append('resize', step, size);
    await freezeRunConfig(run.config, config);
    await dropLaterMetrics(run, step);
    log(
      from
        ? `going on from step ${step}: ${from.checkpoint.path}`
        : 'no checkpoint yet: starting again from step 0',
    );
    const outcome = await runSession({ ...facts, tokenizer, journal, from, maxSteps: options.maxSteps });
    return await concludeRun(facts, outcome);
  } finally {
    journal.close();
  }
}

/** On how many workers a run is spread, and how. */
function sizeOf({ parallel: { workers, expertParallel } }: RunConfig) {
  return { workers, expertParallel };
}

interface StartingPoint {
  readonly checkpoint: CommittedCheckpoint;
  readonly config: RunConfig;
  readonly state: CoordinatorState;
  readonly datasetHash: string;
  /** Absent in checkpoints of older versions. */
  readonly tokenizer: TokenizerRecord | undefined;
}

async function startingPoint(
  run: RunDirectory,
): Promise<{ from: StartingPoint | undefined; refused: RefusedCheckpoint[] }> {
  const { checkpoint, refused } = await newestValidCheckpoint(run.path, { deep: true });
  const reasons = refused.map(describeRefused);
  if (!checkpoint) return { from: undefined, refused: reasons };
  const { step, directory, manifest } = checkpoint;
  const saved = manifest.state as unknown as SavedState;
  const from = {
    checkpoint: { path: directory, step, weights: manifest.hashes.weights },
    config: configFromRun(run.path, parseConfig(manifest.config, RunConfig, `${directory}/manifest.json`)),
    state: CoordinatorState.parse(saved.coordinator),
    datasetHash: saved.datasetHash,
    tokenizer: TokenizerRecord.optional().parse(saved.tokenizer),
  };
  return { from, refused: reasons };
}

/** Without a checkpoint, the journal's first entry knows the corpus. */
function refuseOtherDataset(run: RunDirectory, inCheckpoint: string | undefined, now: string): void {
  const start = readJournal(run.journal).find((entry) => entry.kind === 'start');
  const saved = inCheckpoint ?? start?.datasetHash;
  if (saved === undefined || saved === now) return;
  throw new SluiceError(
    'SLUICE_E_DATASET_CHANGED',
    `The run was trained on the corpus ${saved}, but the recipe now gives ${now}.`,
    { details: { saved, now } },
  );
}

/** Until its first checkpoint, a run that began with given weights needs them, and needs them to be the same. */
async function refuseOtherInitialWeights(run: RunDirectory, config: RunConfig): Promise<void> {
  const now = await checkInitialWeights(config);
  const start = readJournal(run.journal).find((entry) => entry.kind === 'start');
  const saved = start?.from?.weights;
  if (now === undefined || saved === undefined || saved === now.weights) return;
  throw new SluiceError(
    'SLUICE_E_WEIGHTS_CHANGED',
    `The run began with the weights ${saved}, but ${now.path} now holds ${now.weights}.`,
    { details: { path: now.path, saved, now: now.weights } },
  );
}

/** Steps after the checkpoint are computed again, and their lines written again. */
async function dropLaterMetrics(run: RunDirectory, step: number): Promise<void> {
  const metrics = MetricsLog.open(run.metrics);
  try {
    await metrics.truncateAfter(step);
    await truncateDiagnosticsAfter(run.diagnostics, step);
  } finally {
    metrics.close();
  }
}
