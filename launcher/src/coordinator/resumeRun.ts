/** Goes on with a run: from which checkpoint, with which changes, and what of the files is from a future that is redone. */

import { isDeepStrictEqual } from 'node:util';
import { SluiceError } from '@sluice/core';
import { supersedeAfter } from '@sluice/observe';
import { firstSampleOf, type Rollback, type RunConfig } from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { type Fleet, localFleet } from '../fleet/fleet.ts';
import type { Host } from '../fleet/host.ts';
import { checkpointHistory } from '../run/checkpointHistory.ts';
import { checkInitialWeights, type InitialWeights } from '../run/initialWeights.ts';
import { openJournal, readJournal, startOf } from '../run/journal.ts';
import { describeRefused, refusedLine } from '../run/locateCheckpoint.ts';
import { acquireRunLock, type RunLock } from '../run/lock.ts';
import { refuseLostCheckpoints, refuseNeedlessScratch } from '../run/lostCheckpoints.ts';
import { judgeChanges, keysAllowedBefore, refuseChangedPast, refuseVainAllow } from '../run/resumeRules.ts';
import { rollbacksOf } from '../run/rollbacks.ts';
import { freezeRunConfig, loadRunConfig } from '../run/runConfig.ts';
import { existingRun, type RunDirectory } from '../run/runDirectory.ts';
import { configInRun, pathInRun } from '../run/runPaths.ts';
import { newRunId, runId, runToken } from '../run/runToken.ts';
import { keptTokenizer } from '../run/runTokenizer.ts';
import { beyondTheEnd, lastStepOf, type StopFlags } from '../run/stopPoint.ts';
import { refuseAbsentBackend, validateConfig, validateVocabulary } from '../run/validate.ts';
import { type BesideOptions, startBeside } from '../watch/beside.ts';
import { findCorpora } from './corpora.ts';
import { leftAgents, takeLeftCopies } from './leftCopies.ts';
import { aloneLines, checkMachine } from './machine.ts';
import type { MemoryCopies } from './memoryCopies.ts';
import { openNotifierIfPossible } from './notifier.ts';
import { recallCopies } from './recalledCopies.ts';
import type { Recorder } from './recorder.ts';
import { runSession } from './session.ts';
import { checkSplits } from './splits.ts';
import { type StartingPoint, startingPoint } from './startingPoint.ts';
import { concludeRun, summarizeFinished } from './summary.ts';
import type { Start } from './underway.ts';

export interface ResumeRunOptions extends StopFlags, BesideOptions {
  readonly run: string;
  readonly workers?: number | undefined;
  readonly allow?: readonly string[] | undefined;
  readonly set?: readonly string[] | undefined;
  readonly metricsPort?: number | undefined;
  /** Begin anew at step 0 where no checkpoint can be gone on from. */
  readonly fromScratch?: boolean | undefined;
  /** What a run is to be told from others by that has not come to begin. */
  readonly id?: string | undefined;
}

/**
 * Goes on with a run from its newest sound checkpoint, or from the beginning when it has not come to a first one. That none of
 * its checkpoints can be used any more is an error, unless it is to begin anew.
 * @param fleet its hosts; this machine alone when left out
 * @throws SLUICE_E_NO_CHECKPOINT with what is wrong with each; SLUICE_E_USAGE for `fromScratch` where there is a sound one;
 *   SLUICE_E_RUN_IN_USE, SLUICE_E_RESUME_KEY_FIXED, SLUICE_E_RESUME_NEEDS_ALLOW, SLUICE_E_RESUME_ALLOW_INVALID,
 *   SLUICE_E_MIXTURE_PAST, SLUICE_E_DATASET_CHANGED, and the coded errors of the configuration, the data, the checkpoints and the workers
 */
export async function resumeRun(
  options: ResumeRunOptions,
  log: (line: string) => void,
  fleet?: Fleet,
): Promise<CommandResult> {
  const run = existingRun(options.run);
  refuseVainAllow(options.allow ?? []);
  const lock = await acquireRunLock(run.lock, log);
  try {
    return await resumeLocked(run, lock, options, log, fleet);
  } finally {
    lock.release();
  }
}

/** Where a configuration names recipes. */
const RECIPE_KEYS = ['data.recipe', 'data.mixture.recipes'];

async function resumeLocked(
  run: RunDirectory,
  lock: RunLock,
  options: ResumeRunOptions,
  log: (line: string) => void,
  givenFleet: Fleet | undefined,
): Promise<CommandResult> {
  const past = readJournal(run.journal);
  const start = startOf(past);
  const history = checkpointHistory(past);
  const found = await startingPoint(run, history);
  const { from } = found;
  if (options.fromScratch && from) refuseNeedlessScratch(run, from.checkpoint.step);
  if (!options.fromScratch && !from) refuseLostCheckpoints(run, history, found.refused);
  const refused = found.refused.map(describeRefused);
  for (const checkpoint of refused) log(refusedLine(checkpoint));

  const saved = configInRun(run.path, from?.config ?? loadRunConfig(run.config, {}));
  const config = loadRunConfig(run.config, options);
  const written = configInRun(run.path, config);
  const allow = [...(options.allow ?? []), ...keysAllowedBefore(past, written)];
  const changes = judgeChanges(saved, written, allow);
  if (from) {
    const { step, rollbacks } = from.state;
    refuseChangedPast(saved.data, config.data, firstSampleOf(config, step + 1, rollbacks));
  }
  validateConfig(config);
  if (!givenFleet) aloneLines(config).forEach(log);
  const fleet = givenFleet ?? localFleet();
  // Other hosts have it, or say that they have not.
  if (fleet.isHere) refuseAbsentBackend(config);
  refusePastEnd(saved, config, from?.state.step ?? 0);
  const isOtherRecipe = changes.some(({ key }) => RECIPE_KEYS.includes(key));
  const datasetHash = from?.datasetHash ?? start?.datasetHash;
  const corpora = await findCorpora({ data: config.data, datasetHash, isOtherRecipe }, log);
  validateVocabulary(config.model.vocabularySize, corpora.vocabularySize);
  const notes = checkSplits(config, corpora.directories);

  if (!from) await refuseOtherInitialWeights(start?.from, config);

  const tokenizer = await keptTokenizer(run, from?.tokenizer ?? start?.tokenizer, corpora.directories[0]!);

  const facts = { run, config, corpora };
  const step = from?.state.step ?? 0;
  beyondTheEnd(options, step, config.training.steps).forEach(log);
  if (from && from.state.step >= config.training.steps) {
    return summarizeFinished(facts, from.state, from.checkpoint);
  }

  [...checkMachine(config, fleet.hosts()), ...notes].forEach(log);
  const lastStep = lastStepOf(options, step, config.training.steps);
  const notifier = openNotifierIfPossible(run.path, config, log);
  const journal = notifier.listenTo(openJournal(run.journal, lock.assertOwned));
  try {
    const id = runId(past) ?? options.id ?? newRunId();
    const wanted = { run: id, journal: past, config: written, datasetHash: corpora.datasetHash };
    // The session leaves its own contact in place of that of the coordinator before.
    const left = givenFleet ? undefined : leftAgents(run.contact, runToken(run.path, id));
    const begin = async (hosts: readonly Host[], recorder: Recorder): Promise<Start | undefined> => {
      const seek = { ...wanted, after: step, upTo: lastStep };
      const copies = options.fromScratch
        ? undefined
        : left
          ? await takeLeftCopies(left, hosts[0]!, seek, recorder.message)
          : await recallCopies(hosts, seek, recorder.message);
      const startStep = copies?.step ?? step;
      journal.append('resume', startStep, {
        ...(copies
          ? { fromMemory: true }
          : from && { checkpoint: pathInRun(run.path, from.checkpoint.path) }),
        ...sizeOf(config),
        changes,
        refusedCheckpoints: refused.map((one) => ({ ...one, path: pathInRun(run.path, one.path) })),
      });
      const size = { from: sizeOf(saved), to: sizeOf(config) };
      if (!isDeepStrictEqual(size.from, size.to)) journal.append('resize', startStep, size);
      await freezeRunConfig(run.config, config);
      await recorder.goBack(startStep, () => supersedeAfter(run.path, startStep));
      recorder.message(beginningLine(copies, from, options));
      if (copies) return { state: copies.state, copies };
      const isSameRun = !changes.some(({ allowed }) => allowed);
      return from && isSameRun ? withDecisions(from, rollbacksOf(past)) : from;
    };
    const closeBeside = await startBeside(run.path, options, config, log);
    const outcome = await runSession({
      ...facts,
      tokenizer,
      journal,
      from,
      begin,
      lastStep,
      fleet,
      lock,
      id,
    }).finally(closeBeside);
    return await concludeRun(facts, outcome);
  } finally {
    journal.close();
    await notifier.close();
  }
}

/** It goes back no second time for spikes that it knows of. */
function withDecisions(from: StartingPoint, rollbacks: readonly Rollback[]): StartingPoint {
  return { ...from, state: { ...from.state, rollbacks: [...rollbacks] } };
}

function beginningLine(
  copies: MemoryCopies | undefined,
  from: StartingPoint | undefined,
  { fromScratch }: ResumeRunOptions,
): string {
  if (copies) return `going on from step ${copies.step}, of which the hosts have copies`;
  if (from) return `going on from step ${from.state.step}: ${from.checkpoint.path}`;
  return `${fromScratch ? 'from scratch' : 'no checkpoint yet'}: starting again from step 0`;
}

/** A run that is made shorter than it is would be called finished, though it never was what it would have been. */
function refusePastEnd(saved: RunConfig, now: RunConfig, step: number): void {
  const { steps } = now.training;
  if (steps === saved.training.steps || steps > step) return;
  throw new SluiceError(
    'SLUICE_E_SCHEDULE_INVALID',
    `training.steps is now ${steps}, but the run is at step ${step} already: there is nothing left to train.`,
    { details: { step, saved: saved.training.steps, now: steps } },
  );
}

/** On how many workers a run is spread, and how. */
function sizeOf({ parallel: { workers, expertParallel } }: RunConfig) {
  return { workers, expertParallel };
}

/**
 * Until its first checkpoint, a run that began with given weights needs them, and needs them to be the same.
 * @param saved what was noted of them, if there were any
 */
async function refuseOtherInitialWeights(
  saved: Pick<InitialWeights, 'weights' | 'optimizer'> | undefined,
  config: RunConfig,
): Promise<void> {
  const now = await checkInitialWeights(config);
  if (now === undefined || saved === undefined) return;
  for (const part of ['weights', 'optimizer'] as const) {
    if (saved[part] === now[part]) continue;
    const what = part === 'weights' ? 'the weights' : 'the state of an optimizer';
    throw new SluiceError(
      'SLUICE_E_WEIGHTS_CHANGED',
      `The run began with ${what} ${saved[part]}, but ${now.path} now holds ${now[part]}.`,
      { details: { path: now.path, saved: saved[part], now: now[part] } },
    );
  }
}
