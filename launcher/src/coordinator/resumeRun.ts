/** Goes on with a run: from which checkpoint, with which changes, and what of the files is from a future that is redone. */

import { isDeepStrictEqual } from 'node:util';
import { SluiceError } from '@sluice/core';
import { supersedeAfter } from '@sluice/observe';
import { firstSampleOf, type Rollback, type RunConfig } from '@sluice/train';
import type { CommandResult } from '../cli/command.ts';
import { type Fleet, localFleet } from '../fleet/fleet.ts';
import type { Host } from '../fleet/host.ts';
import { hostsOfWorkers } from '../fleet/placement.ts';
import { checkpointHistory } from '../run/checkpointHistory.ts';
import { checkInitialWeights, type InitialWeights } from '../run/initialWeights.ts';
import { type Journal, type JournalEntry, openJournal, readJournal, startOf } from '../run/journal.ts';
import { describeRefused, type RefusedCheckpoint, refusedLine } from '../run/locateCheckpoint.ts';
import { acquireRunLock, type RunLock } from '../run/lock.ts';
import { refuseLostCheckpoints, refuseNeedlessScratch } from '../run/lostCheckpoints.ts';
import {
  type JudgedChange,
  judgeChanges,
  keysAllowedBefore,
  refuseChangedPast,
  refuseVainAllow,
} from '../run/resumeRules.ts';
import { rollbacksOf } from '../run/rollbacks.ts';
import { freezeRunConfig, loadRunConfig } from '../run/runConfig.ts';
import { existingRun, type RunDirectory } from '../run/runDirectory.ts';
import { configInRun, pathInRun } from '../run/runPaths.ts';
import { newRunId, runId, runToken } from '../run/runToken.ts';
import { adoptTokenizer, keptTokenizer } from '../run/runTokenizer.ts';
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
import { noteStart } from './startRun.ts';
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
  const held: Held = { lock: await acquireRunLock(run.lock, log), closeBeside: () => {} };
  try {
    return await resumeLocked(run, held, options, log, fleet);
  } finally {
    held.lock.release();
    // What runs beside is to see how the run ended.
    held.closeBeside();
  }
}

/** What is to be given back when the run ends. */
interface Held {
  readonly lock: RunLock;
  closeBeside: () => void;
}

/** Where a configuration names recipes. */
const RECIPE_KEYS = ['data.recipe', 'data.mixture.recipes'];

async function resumeLocked(
  run: RunDirectory,
  held: Held,
  options: ResumeRunOptions,
  log: (line: string) => void,
  givenFleet: Fleet | undefined,
): Promise<CommandResult> {
  const { lock } = held;
  const past = readJournal(run.journal);
  const { from, refused } = await chooseStart(run, past, options, log);
  const step = from?.state.step ?? 0;
  const { saved, config, written, changes } = changedConfig(run, past, from, options);
  if (!givenFleet) aloneLines(config).forEach(log);
  const fleet = givenFleet ?? localFleet();
  // Other hosts have it, or say that they have not.
  if (fleet.isHere) refuseAbsentBackend(config);

  const start = startOf(past);
  const isOtherRecipe = changes.some(({ key }) => RECIPE_KEYS.includes(key));
  const datasetHash = from?.datasetHash ?? start?.datasetHash;
  const corpora = await findCorpora({ data: config.data, datasetHash, isOtherRecipe }, log);
  validateVocabulary(config.model.vocabularySize, corpora.vocabularySize);
  const notes = checkSplits(config, corpora.directories);
  const initial = from ? undefined : await checkInitialWeights(config);
  refuseOtherInitialWeights(start?.from, initial);
  // One that was killed before it had begun begins now.
  const hasBegun = start !== undefined || from !== undefined;
  const [corpus] = corpora.directories;
  const tokenizer = hasBegun
    ? await keptTokenizer(run, from?.tokenizer ?? start?.tokenizer, corpus!)
    : await adoptTokenizer(run, config, corpus!);

  const facts = { run, config, corpora };
  beyondTheEnd(options, step, config.training.steps).forEach(log);
  if (from && step >= config.training.steps) return summarizeFinished(facts, from.state, from.checkpoint);
  [...checkMachine(config, fleet.hosts()), ...notes].forEach(log);
  const lastStep = lastStepOf(options, step, config.training.steps);
  const notifier = openNotifierIfPossible(run.path, config, log);
  const journal = notifier.listenTo(openJournal(run.journal, lock.assertOwned));
  try {
    const id = runId(past) ?? options.id ?? newRunId();
    if (!hasBegun) noteStart(journal, { id, ...facts, from: initial, tokenizer });
    // The session leaves its own contact in place of that of the coordinator before.
    const left = givenFleet ? undefined : leftAgents(run.contact, runToken(run.path, id));
    const wanted = { run: id, journal: past, config: written, datasetHash: corpora.datasetHash };
    const seek = { ...wanted, after: step, upTo: lastStep };
    const findCopies = async (hosts: readonly Host[], log: (line: string) => void) => {
      if (options.fromScratch) return undefined;
      if (left) return takeLeftCopies(left, hosts[0]!, seek, log);
      return recallCopies(hostsOfWorkers(hosts, config.parallel), seek, log);
    };
    const resumed = { run, past, journal, saved, config, changes, from, refused };
    const begin = async (hosts: readonly Host[], recorder: Recorder) =>
      beginAgain(resumed, options, await findCopies(hosts, recorder.message), recorder);
    held.closeBeside = await startBeside(run.path, options, config, log);
    const session = { ...facts, tokenizer, journal, from, begin, lastStep, fleet, lock, id };
    return await concludeRun(facts, await runSession(session));
  } finally {
    journal.close();
    await notifier.close();
  }
}

/** The checkpoint that is gone on from, if there is one, and those that were refused before it was found. */
async function chooseStart(
  run: RunDirectory,
  past: readonly JournalEntry[],
  { fromScratch }: ResumeRunOptions,
  log: (line: string) => void,
): Promise<Pick<Resumed, 'from' | 'refused'>> {
  const history = checkpointHistory(past);
  const { from, refused } = await startingPoint(run, history);
  if (fromScratch && from) refuseNeedlessScratch(run, from.checkpoint.step);
  if (!fromScratch && !from) refuseLostCheckpoints(run, history, refused);
  const described = refused.map(describeRefused);
  for (const checkpoint of described) log(refusedLine(checkpoint));
  return { from, refused: described };
}

/**
 * The configuration that the run goes on with, and in what it differs from the one before.
 * @returns `written`: the configuration with paths from the run, as `saved` has them
 */
function changedConfig(
  run: RunDirectory,
  past: readonly JournalEntry[],
  from: StartingPoint | undefined,
  options: ResumeRunOptions,
): Pick<Resumed, 'saved' | 'config' | 'changes'> & { readonly written: RunConfig } {
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
  refusePastEnd(saved, config, from?.state.step ?? 0);
  return { saved, config, written, changes };
}

/** A run that is gone on with. */
interface Resumed {
  readonly run: RunDirectory;
  readonly past: readonly JournalEntry[];
  readonly journal: Journal;
  /** As it was saved, with paths from the run. */
  readonly saved: RunConfig;
  readonly config: RunConfig;
  readonly changes: readonly JudgedChange[];
  readonly from: StartingPoint | undefined;
  readonly refused: readonly RefusedCheckpoint[];
}

/** Writes down where the run goes on, takes back what the files have of a future that is redone, and says what it begins with. */
async function beginAgain(
  { run, past, journal, saved, config, changes, from, refused }: Resumed,
  options: ResumeRunOptions,
  copies: MemoryCopies | undefined,
  recorder: Recorder,
): Promise<Start | undefined> {
  const step = copies?.step ?? from?.state.step ?? 0;
  journal.append('resume', step, {
    ...(copies ? { fromMemory: true } : from && { checkpoint: pathInRun(run.path, from.checkpoint.path) }),
    ...sizeOf(config),
    changes,
    refusedCheckpoints: refused.map((one) => ({ ...one, path: pathInRun(run.path, one.path) })),
  });
  const size = { from: sizeOf(saved), to: sizeOf(config) };
  if (!isDeepStrictEqual(size.from, size.to)) journal.append('resize', step, size);
  await freezeRunConfig(run.config, config);
  recorder.goBack(step, () => supersedeAfter(run.path, step));
  recorder.message(beginningLine(copies, from, options));
  if (copies) return { state: copies.state, copies };
  const isSameRun = !changes.some(({ allowed }) => allowed);
  return from && isSameRun ? withDecisions(from, rollbacksOf(past)) : from;
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
function refuseOtherInitialWeights(
  saved: Pick<InitialWeights, 'weights' | 'optimizer'> | undefined,
  now: InitialWeights | undefined,
): void {
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
