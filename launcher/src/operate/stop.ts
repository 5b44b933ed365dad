/** `sluice stop`: has a run saved and stopped, and waits until its processes are gone. */

import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import { counted } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import type { RunReport } from '../coordinator/runBoard.ts';
import type { Contact } from '../run/contact.ts';
import { readJournal } from '../run/journal.ts';
import { lockOwner } from '../run/lock.ts';
import { isSeenFromHere, processStart } from '../run/processIdentity.ts';
import { existingRun, type RunDirectory } from '../run/runDirectory.ts';
import { askCoordinator } from './askCoordinator.ts';
import { findCoordinator, type LiveRun } from './liveRun.ts';
import { askHosts, type PsOptions } from './ps.ts';
import { endProcesses, type RunProcess, runProcesses } from './runProcesses.ts';

export type StopOptions = PsOptions;
type Log = (line: string) => void;

/** Between two looks at a run that ends, ms. */
const LOOK_MS = 200;
/** How often people are told what is waited for, ms. */
const TELL_EVERY_MS = 5000;
/** How long the coordinator's process may go on after it gave the run back: it writes a report, and sends agents home. */
const END_LIMIT_MS = 60_000;

/**
 * @throws what `findCoordinator` and `askCoordinator` throw; SLUICE_E_RUN_MISSING, SLUICE_E_HOST_FILE, SLUICE_E_PROCESSES_LEFT
 */
export async function stop(options: StopOptions, log: Log): Promise<CommandResult> {
  if (options.token !== undefined) return endLocal(options.token);
  if (options.run === undefined) {
    throw new SluiceError('SLUICE_E_USAGE', 'sluice stop needs the directory of a run, or --token.');
  }
  const run = existingRun(options.run);
  const live = await coordinatorOf(run, options);
  const last = live && (await stopInOrder(run, live, log));
  const ended = options.hosts === undefined ? [] : await endOnHosts(run, options);
  return outcome(run, last, ended);
}

/** With hosts to look through, a coordinator that was killed is no obstacle. */
async function coordinatorOf(run: RunDirectory, { hosts }: StopOptions): Promise<LiveRun | undefined> {
  try {
    return await findCoordinator(run);
  } catch (error) {
    if (hosts !== undefined && error instanceof SluiceError && error.code === 'SLUICE_E_COORDINATOR_GONE') {
      return undefined;
    }
    throw error;
  }
}

/** @returns what the coordinator told last */
async function stopInOrder(run: RunDirectory, { contact, owner }: LiveRun, log: Log): Promise<RunReport> {
  let report = await askCoordinator(contact, 'stop');
  log(`asked process ${owner.pid} on ${owner.host} to save and stop, at step ${report.step}`);
  const isOwner = () => lockOwner(run.lock)?.started === owner.started;
  for (let told = 0, waited = 0; isOwner(); waited += LOOK_MS) {
    await delay(LOOK_MS);
    // One that is busy with its report, or has just given the run back, answers no more: the lock says when it is done.
    report = (await askCoordinator(contact, 'ps', 1000).catch(() => undefined)) ?? report;
    if (waited - told < TELL_EVERY_MS) continue;
    told = waited;
    log(`step ${report.step}: ${report.doing}`);
  }
  await waitForProcesses(contact, report, log);
  return report;
}

/** Those of this machine can be seen to end; of others the coordinator has waited for the workers, and sent the agents home. */
async function waitForProcesses(
  contact: Contact,
  { workers, coordinator }: RunReport,
  log: Log,
): Promise<void> {
  if (!isSeenFromHere(contact)) return;
  const isThere = () => processStart(coordinator.pid) === contact.started;
  for (let waited = 0; isThere() && waited < END_LIMIT_MS; waited += LOOK_MS) await delay(LOOK_MS);
  if (isThere())
    log(`process ${coordinator.pid} goes on, without the run and its ${counted(workers.length, 'worker')}`);
}

async function endLocal(token: string): Promise<CommandResult> {
  const { ended, left } = await endProcesses(runProcesses(token));
  if (left.length > 0) {
    const pids = left.map(({ pid }) => pid);
    throw new SluiceError(
      'SLUICE_E_PROCESSES_LEFT',
      `Processes ${pids.join(', ')} did not end, even by SIGKILL.`,
      {
        details: { token, pids },
      },
    );
  }
  return { text: `${ended.length === 1 ? '1 process' : `${ended.length} processes`} ended`, json: { ended } };
}

interface EndedOnHost {
  readonly host: string;
  readonly ended: readonly RunProcess[];
}

/** @throws SLUICE_E_PROCESSES_LEFT naming the hosts that could not be looked at */
async function endOnHosts(run: RunDirectory, options: StopOptions): Promise<EndedOnHost[]> {
  const answers = await askHosts(run, options, 'stop');
  const failed = answers.filter(({ failure }) => failure !== undefined);
  if (failed.length > 0) {
    const told = failed.map(({ host, failure }) => `${host}: ${failure}`);
    throw new SluiceError('SLUICE_E_PROCESSES_LEFT', `Not all hosts could be cleared. ${told.join('; ')}`, {
      details: { run: run.path, hosts: failed.map(({ host, failure }) => ({ host, failure })) },
    });
  }
  return answers.map(({ host, json }) => ({ host, ended: (json?.ended ?? []) as RunProcess[] }));
}

/** What became of the run: the step that is saved is what it can go on from. */
function outcome(
  run: RunDirectory,
  last: RunReport | undefined,
  hosts: readonly EndedOnHost[],
): CommandResult {
  const journal = readJournal(run.journal);
  const saved = journal.findLast(({ kind }) => kind === 'commit')?.step ?? null;
  const end = journal.findLast(({ kind }) => kind === 'stop');
  // Work is lost only where the run came further than what it saved.
  const isLost = last !== undefined && last.step > (saved ?? 0);
  const failure = isLost && end?.kind === 'stop' ? end.message : undefined;
  return {
    text: [
      last === undefined ? `${run.path} was not running` : `${run.path} is stopped`,
      saved === null ? 'nothing was saved: it had not come to a checkpoint' : `saved: step ${saved}`,
      ...(isLost ? [`lost: steps ${(saved ?? 0) + 1} to ${last.step}${failure ? ` (${failure})` : ''}`] : []),
      ...hosts.map(({ host, ended }) => `${host}: ${ended.length} left-over processes ended`),
    ].join('\n'),
    json: {
      run: run.path,
      wasRunning: last !== undefined,
      savedStep: saved,
      stoppedAt: last?.step ?? null,
      hosts,
    },
    exitCode: isLost ? 1 : 0,
  };
}
