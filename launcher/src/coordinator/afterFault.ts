/** What follows from a fault: whether the run goes on, from where, and what is said where it does not. */

import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import { supersedeAfter } from '@sluice/observe';
import type { Fleet } from '../fleet/fleet.ts';
import type { Host } from '../fleet/host.ts';
import { hostsOfWorkers, worldThatFits } from '../fleet/placement.ts';
import { checkpointHistory } from '../run/checkpointHistory.ts';
import { readJournal } from '../run/journal.ts';
import { refuseLostCheckpoints } from '../run/lostCheckpoints.ts';
import { rollbacksOf } from '../run/rollbacks.ts';
import { type RunDirectory, refuseVanished, shellQuote } from '../run/runDirectory.ts';
import { pathInRun } from '../run/runPaths.ts';
import type { CommittedCheckpoint } from './checkpoints.ts';
import { insist } from './insist.ts';
import { isWholeOn } from './memoryCopies.ts';
import { isFault } from './restarts.ts';
import { startingPoint } from './startingPoint.ts';
import type { Session, Start, Underway } from './underway.ts';

/**
 * Whether to go on after a fault, and when.
 * @throws the fault, or what `Restarts` makes of it, where the run is not to go on
 */
export async function judge(
  fault: unknown,
  { restarts, recorder, board, latest, copies, state, stop }: Underway,
): Promise<void> {
  const safeStep = Math.max(latest?.step ?? -1, copies?.step ?? -1);
  const pause = restarts.allow(fault, state.step + 1, safeStep);
  const { message } = fault as SluiceError;
  // Whoever wants the run to end does not want it to begin anew.
  if (stop.requested) throw interrupted(message, latest);
  board.noteFault(message);
  recorder.message(message, 'error');
  if (pause > 0) await delay(pause);
}

/** After a fault of hosts that do not reach each other, goes on without some of them. */
export function leaveOutApart(fault: unknown, fleet: Fleet, { recorder }: Pick<Underway, 'recorder'>): void {
  if (!(fault instanceof SluiceError && fault.code === 'SLUICE_E_HOSTS_APART')) return;
  const left = fleet.leaveOut((fault.details.hosts ?? []) as [string, string][]);
  if (left.length > 0) recorder.message(`going on without ${left.join(', ')} for now`, 'warning');
}

/** Takes a run back to the newest state that is whole: copies in the hosts' memory, a checkpoint, or its beginning. */
export async function goBack(
  { run, config, journal, fleet }: Session,
  underway: Underway,
  { code, message }: SluiceError,
  hosts: readonly Host[],
): Promise<Start | undefined> {
  const { recorder, latest, copies } = underway;
  const { workers, expertParallel } = worldThatFits(hosts, config.parallel);
  const busy = hostsOfWorkers(hosts, config.parallel);
  const isNewer = copies !== undefined && copies.step > (latest?.step ?? -1) && isWholeOn(copies, busy);
  // Copies that cannot be loaded are not tried twice.
  underway.copies = undefined;
  const start = await whenWritable(underway, async () => {
    refuseVanished(run);
    return isNewer ? { state: copies.state, copies } : await newestCheckpoint(run);
  });
  const step = start?.state.step ?? 0;
  const entry = {
    ...(start?.checkpoint && { checkpoint: pathInRun(run.path, start.checkpoint.path) }),
    ...(isNewer && { fromMemory: true }),
    ...{ code, message, workers, expertParallel },
    ...(fleet.network && { hosts: hosts.map(({ name }) => name) }),
  };
  await whenWritable(underway, () => journal.append('restart', step, entry));
  await whenWritable(underway, () => recorder.goBack(step, () => supersedeAfter(run.path, step)));
  recorder.message(
    `going on by itself from step ${step}${isNewer ? ', of which the hosts have copies' : ''}`,
    'warning',
  );
  return start;
}

/**
 * Does what going back takes, and waits for a disk that does not take it: a run that went on all the same would take its steps
 * with nothing to show that it went back, or from its beginning, where it does not see its checkpoints.
 * @throws SLUICE_E_INTERRUPTED where the run is to stop meanwhile; what the last attempt failed with
 */
export function whenWritable<T>(
  { recorder, stop, latest, patience }: Pick<Underway, 'recorder' | 'stop' | 'latest' | 'patience'>,
  work: () => T | Promise<T>,
): Promise<T> {
  const tell = ({ message }: SluiceError, attempt: string | undefined) => {
    if (stop.requested) throw interrupted(message, latest);
    if (attempt === undefined) return;
    const next = `Make room, or mend what is told: trying again (${attempt}).`;
    recorder.message(`the run cannot go back yet: ${message} ${next}`, 'warning');
  };
  return insist(work, tell, patience);
}

/**
 * The newest sound checkpoint, with the decisions of the journal that it does not know of; undefined before the first.
 * @throws SLUICE_E_NO_CHECKPOINT
 */
export async function newestCheckpoint(run: RunDirectory): Promise<Start | undefined> {
  const journal = readJournal(run.journal);
  const history = checkpointHistory(journal);
  const { from, refused } = await startingPoint(run, history);
  if (!from) refuseLostCheckpoints(run, history, refused);
  return from && { ...from, state: { ...from.state, rollbacks: rollbacksOf(journal) } };
}

/** Copies that are gone from a host's memory, or damaged there, are a fault like another: the run has checkpoints. */
export function copiesLost(step: number, error: unknown): unknown {
  if (!(error instanceof SluiceError) || isFault(error)) return error;
  const message = `The copies of step ${step} in the hosts' memory cannot be gone on from: ${error.message}`;
  return new SluiceError('SLUICE_E_WORKER_FAILED', message, { cause: error });
}

/** The run was to be saved and stopped, and its workers failed before it was. */
function interrupted(fault: string, latest: CommittedCheckpoint | undefined): SluiceError {
  const since = latest ? `the work since step ${latest.step}` : 'all work';
  return new SluiceError('SLUICE_E_INTERRUPTED', `Asked to stop; ${since} could not be saved: ${fault}`);
}

/** An interruption that no scheduler is to mend by starting the run again. */
export function stoppedForGood(error: unknown): unknown {
  if (!(error instanceof SluiceError && error.code === 'SLUICE_E_INTERRUPTED')) return error;
  return new SluiceError(error.code, error.message, {
    details: { ...error.details, isFinal: true },
    cause: error,
  });
}

/** A fault with the way to go on after it. */
export function withRecovery(
  error: unknown,
  run: RunDirectory,
  latest: CommittedCheckpoint | undefined,
): unknown {
  const isMendable =
    error instanceof SluiceError && (isFault(error) || error.code === 'SLUICE_E_SAVE_FAILED');
  if (!isMendable) return error;
  const from = latest ? `The last checkpoint is step ${latest.step}` : 'There is no checkpoint yet';
  const { code, message, details } = error;
  const command = `sluice resume ${shellQuote(run.path)}`;
  return new SluiceError(code, `${message} ${from}; go on with: ${command}`, { details, cause: error });
}
