/**
 * One owner for a run directory. The lock names its owner's process; the lock of a process that is gone is taken
 * over, so that a run killed by `kill -9` can be resumed at once.
 */

import { randomUUID } from 'node:crypto';
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { SluiceError, writeError } from '@sluice/core';
import { isAlive, ownIdentity, type ProcessIdentity } from './processIdentity.ts';

export interface RunLock {
  readonly path: string;
  /** Gives the directory back; a second call does nothing. */
  release(): void;
}

interface LockContent extends ProcessIdentity {
  /** Tells this taking of the lock from every other. */
  readonly token: string;
}

/**
 * Takes the lock at `path` for this process.
 * @throws SLUICE_E_RUN_IN_USE when a live process owns it; SLUICE_E_FILE_UNWRITABLE
 */
export function acquireLock(path: string): RunLock {
  const content: LockContent = { ...ownIdentity(), token: randomUUID() };
  const candidate = `${path}.${content.token}`;
  try {
    writeFileSync(candidate, `${JSON.stringify(content)}\n`);
    if (!linkIfAbsent(candidate, path)) takeOver(path, candidate);
    const owner = readLock(path);
    if (owner?.token !== content.token) throw inUse(path, owner);
  } catch (error) {
    throw writeError(path, error);
  } finally {
    rmSync(candidate, { force: true });
  }
  return { path, release: () => releaseLock(path, content.token) };
}

/** Who owns the lock at `path`, alive or not; undefined when nobody does. */
export function lockOwner(path: string): (ProcessIdentity & { readonly alive: boolean }) | undefined {
  const owner = readLock(path);
  return owner && { pid: owner.pid, host: owner.host, started: owner.started, alive: isAlive(owner) };
}

/** Hard links are made atomically, and never over a file that exists. */
function linkIfAbsent(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Replaces a dead owner's lock. A second lock lets only one of several processes that see the dead one do it. */
function takeOver(path: string, candidate: string): void {
  refuseLiveOwner(path);
  const guard = `${path}.takeover`;
  const replacement = `${candidate}.new`;
  if (!linkIfAbsent(candidate, guard)) {
    refuseLiveOwner(guard);
    rmSync(guard, { force: true });
    if (!linkIfAbsent(candidate, guard)) throw inUse(path, readLock(guard));
  }
  try {
    // Someone else may have taken over, and even finished, between the first look and the guard.
    refuseLiveOwner(path);
    linkSync(candidate, replacement);
    renameSync(replacement, path);
  } finally {
    rmSync(replacement, { force: true });
    rmSync(guard, { force: true });
  }
}

function refuseLiveOwner(path: string): void {
  const owner = readLock(path);
  if (owner && isAlive(owner)) throw inUse(path, owner);
}

function releaseLock(path: string, token: string): void {
  if (readLock(path)?.token === token) rmSync(path, { force: true });
}

/** A lock that is missing or that nobody could have written whole owns nothing. */
function readLock(path: string): LockContent | undefined {
  try {
    const content = JSON.parse(readFileSync(path, 'utf8'));
    return typeof content?.pid === 'number' && typeof content.host === 'string' ? content : undefined;
  } catch {
    return undefined;
  }
}

function inUse(path: string, owner: ProcessIdentity | undefined): SluiceError {
  const who = owner ? `process ${owner.pid} on ${owner.host}` : 'another process';
  return new SluiceError('SLUICE_E_RUN_IN_USE', `The run is in use by ${who} (lock: ${path}).`, {
    details: { lock: path, pid: owner?.pid, host: owner?.host },
  });
}
