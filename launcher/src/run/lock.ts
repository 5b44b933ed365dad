/**
 * One owner for a run directory. The lock names its owner's process; the lock of a process that is gone is taken
 * over, so that a run killed by `kill -9` can be resumed at once. An owner on another machine shows that it lives by touching
 * the lock; one that does not, or that a later incarnation follows, is taken over too, and finds that out before it writes.
 * A lock that was copied along with its directory owns nothing there.
 */

import { randomUUID } from 'node:crypto';
import { linkSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError, writeError } from '@sluice/core';
import { givenIncarnation, type Incarnation, isLater } from './incarnation.ts';
import { isAlive, isSeenFromHere, ownIdentity, type ProcessIdentity } from './processIdentity.ts';
import { hasVanished } from './runDirectory.ts';

export interface RunLock {
  readonly path: string;
  /** @throws SLUICE_E_RUN_TAKEN_OVER when another process owns the directory now */
  assertOwned(): void;
  /** Gives the directory back; a second call does nothing. */
  release(): void;
}

export interface LockOptions {
  /** Of this process; as SLUICE_INCARNATION says when left out. */
  readonly incarnation?: Incarnation | undefined;
  /** Token of an owner that has shown no sign of life. */
  readonly silent?: string | undefined;
}

/** How often an owner shows that it lives, ms. */
const TOUCH_EVERY_MS = 5000;

/** How long an owner on another machine is watched before it counts as gone, ms. */
const SILENCE_MS = 20_000;

interface LockContent extends ProcessIdentity {
  readonly incarnation?: Incarnation | undefined;
  /** Tells this taking of the lock from every other. */
  readonly token: string;
  /** Where it was put; absent in locks of older versions. */
  readonly path?: string;
}

/**
 * Takes the lock at `path` for this process.
 * @throws SLUICE_E_RUN_IN_USE when a live process owns it; SLUICE_E_FILE_UNWRITABLE
 */
export function acquireLock(path: string, options: LockOptions = {}): RunLock {
  const { incarnation = givenIncarnation(), silent } = options;
  const content: LockContent = { ...ownIdentity(), token: randomUUID(), incarnation, path: resolve(path) };
  const candidate = `${path}.${content.token}`;
  try {
    writeFileSync(candidate, `${JSON.stringify(content)}\n`);
    if (!linkIfAbsent(candidate, path)) takeOver(path, candidate, { incarnation, silent });
    const owner = readLock(path);
    if (owner?.token !== content.token) throw inUse(path, owner);
  } catch (error) {
    throw writeError(path, error);
  } finally {
    rmSync(candidate, { force: true });
  }
  const pulse = setInterval(() => touch(path), TOUCH_EVERY_MS);
  pulse.unref();
  return {
    path,
    assertOwned: () => assertOwned(path, content.token),
    release() {
      clearInterval(pulse);
      releaseLock(path, content.token);
    },
  };
}

/**
 * As `acquireLock`, after looking whether an owner on another machine, or in another container, still lives, which takes a while.
 * @throws as `acquireLock`
 */
export async function acquireRunLock(
  path: string,
  log: (line: string) => void,
  silenceMs = SILENCE_MS,
): Promise<RunLock> {
  const owner = readLock(path);
  if (!owner || isSeenFromHere(owner) || isFollowed(owner, givenIncarnation())) return acquireLock(path);
  log(
    `process ${owner.pid} on ${owner.host} owns the run; looking for ${silenceMs / 1000} s whether it lives`,
  );
  const touched = () => statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  const before = touched();
  for (let waited = 0; waited < silenceMs && touched() === before; waited += 250) await delay(250);
  if (touched() === before) return acquireLock(path, { silent: owner.token });
  if (readLock(path)?.token === owner.token) throw inUse(path, owner);
  return acquireLock(path);
}

/** Who owns the lock at `path`, alive or not; undefined when nobody does. */
export function lockOwner(path: string): (ProcessIdentity & { readonly alive: boolean }) | undefined {
  const owner = readLock(path);
  if (owner === undefined) return undefined;
  const { pid, host, started, container } = owner;
  return { pid, host, started, container, alive: isAlive(owner) };
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
function takeOver(path: string, candidate: string, options: LockOptions): void {
  refuseLiveOwner(path, options);
  const guard = `${path}.takeover`;
  const replacement = `${candidate}.new`;
  if (!linkIfAbsent(candidate, guard)) {
    refuseLiveOwner(guard, {});
    rmSync(guard, { force: true });
    if (!linkIfAbsent(candidate, guard)) throw inUse(path, readLock(guard));
  }
  try {
    // Someone else may have taken over, and even finished, between the first look and the guard.
    refuseLiveOwner(path, options);
    linkSync(candidate, replacement);
    renameSync(replacement, path);
  } finally {
    rmSync(replacement, { force: true });
    rmSync(guard, { force: true });
  }
}

function refuseLiveOwner(path: string, { incarnation, silent }: LockOptions): void {
  const owner = readLock(path);
  if (!owner || owner.token === silent || isFollowed(owner, incarnation)) return;
  if (isAlive(owner)) throw inUse(path, owner);
}

/** Whether an owner, alive or not, is an earlier start of what owns the lock from now on. */
function isFollowed(owner: LockContent, incarnation: Incarnation | undefined): boolean {
  return (
    incarnation !== undefined && owner.incarnation !== undefined && isLater(incarnation, owner.incarnation)
  );
}

/** Shows whoever watches that the owner lives: the time itself is of no account, only that it changes. */
function touch(path: string): void {
  const now = (performance.timeOrigin + performance.now()) / 1000;
  try {
    utimesSync(path, now, now);
  } catch {
    // A lock that is gone is missed by `assertOwned`.
  }
}

/**
 * A lock that cannot be read at the moment is no reason to stop; one that is gone, or another's, is. One that is gone with its
 * whole run cannot be read: a mount that has vanished may come back.
 */
function assertOwned(path: string, token: string): void {
  let owner: LockContent | undefined;
  try {
    owner = JSON.parse(readFileSync(path, 'utf8')) as LockContent;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || hasVanished(dirname(path))) return;
  }
  if (owner?.token === token) return;
  const who = owner
    ? `process ${owner.pid} on ${owner.host} owns it now`
    : 'its lock was removed, by hand or by a process that took the run over and has ended since';
  throw new SluiceError(
    'SLUICE_E_RUN_TAKEN_OVER',
    `The run is not this process's any more: ${who} (lock: ${path}).`,
    {
      details: { lock: path, pid: owner?.pid, host: owner?.host },
    },
  );
}

function releaseLock(path: string, token: string): void {
  if (readLock(path)?.token === token) rmSync(path, { force: true });
}

/** A lock that is missing, that nobody could have written whole, or that is a copy of another owns nothing. */
function readLock(path: string): LockContent | undefined {
  const content = readContent(path);
  return content && !isCopy(path, content) ? content : undefined;
}

function readContent(path: string): LockContent | undefined {
  try {
    const content = JSON.parse(readFileSync(path, 'utf8'));
    return typeof content?.pid === 'number' && typeof content.host === 'string' ? content : undefined;
  } catch {
    return undefined;
  }
}

/** Whether the lock is still where it was put, as another file. In a directory that was moved, or is seen by two paths, it is not. */
function isCopy(path: string, { path: original, token }: LockContent): boolean {
  if (original === undefined || original === resolve(path) || readContent(original)?.token !== token)
    return false;
  const fileAt = (place: string) => statSync(place, { throwIfNoEntry: false })?.ino;
  return fileAt(original) !== fileAt(path);
}

function inUse(path: string, owner: ProcessIdentity | undefined): SluiceError {
  const who = owner ? `process ${owner.pid} on ${owner.host}` : 'another process';
  return new SluiceError('SLUICE_E_RUN_IN_USE', `The run is in use by ${who} (lock: ${path}).`, {
    details: { lock: path, pid: owner?.pid, host: owner?.host },
  });
}
