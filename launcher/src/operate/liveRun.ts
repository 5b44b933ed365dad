/** Whether somebody coordinates a run, and how he is reached. */

import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import { type Contact, readContact } from '../run/contact.ts';
import { lockOwner } from '../run/lock.ts';
import { isSeenFromHere, type ProcessIdentity } from '../run/processIdentity.ts';
import { type RunDirectory, shellQuote } from '../run/runDirectory.ts';

/** How long a coordinator that has just begun may take until it can be asked, ms. */
const BEGIN_LIMIT_MS = 10_000;

const LOOK_MS = 100;

export interface LiveRun {
  readonly owner: ProcessIdentity;
  readonly contact: Contact;
}

/**
 * The coordinator of a run.
 * @returns undefined where the run has none: it ended, or never began
 * @throws SLUICE_E_COORDINATOR_GONE where it was killed, SLUICE_E_COORDINATOR_ELSEWHERE, SLUICE_E_COORDINATOR_DENIED,
 *   SLUICE_E_COORDINATOR_SILENT where it cannot be asked yet, or not any more
 */
export async function findCoordinator(
  run: RunDirectory,
  limitMs = BEGIN_LIMIT_MS,
): Promise<LiveRun | undefined> {
  for (let waited = 0; ; waited += LOOK_MS) {
    const owner = lockOwner(run.lock);
    if (owner === undefined) return undefined;
    if (!owner.alive) throw gone(run, owner);
    const contact = readContact(run.contact);
    // That of an earlier coordinator is no way to this one.
    if (contact?.pid === owner.pid && contact.host === owner.host && contact.started === owner.started) {
      if (!isSeenFromHere(owner) && contact.endpoints.every((one) => one.startsWith('ipc:'))) {
        throw elsewhere(run, owner);
      }
      return { owner, contact };
    }
    if (waited >= limitMs) throw notYet(run, owner);
    await delay(LOOK_MS);
  }
}

function gone({ path }: RunDirectory, { pid, host }: ProcessIdentity): SluiceError {
  return new SluiceError(
    'SLUICE_E_COORDINATOR_GONE',
    `The run in ${path} was coordinated by process ${pid} on ${host}, which is gone. To go on: sluice resume ${shellQuote(path)}`,
    { details: { runDir: path, pid, host } },
  );
}

function elsewhere({ path }: RunDirectory, { pid, host }: ProcessIdentity): SluiceError {
  return new SluiceError(
    'SLUICE_E_COORDINATOR_ELSEWHERE',
    `The run in ${path} is coordinated by process ${pid} on ${host}, which answers only there.`,
    { details: { runDir: path, pid, host } },
  );
}

function notYet({ path }: RunDirectory, { pid, host }: ProcessIdentity): SluiceError {
  return new SluiceError(
    'SLUICE_E_COORDINATOR_SILENT',
    `The run in ${path} belongs to process ${pid} on ${host}, which is beginning or ending and cannot be asked.`,
    { details: { runDir: path, pid, host } },
  );
}
