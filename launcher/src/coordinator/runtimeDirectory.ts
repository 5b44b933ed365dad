/**
 * The directory of the sockets of one group of workers. It goes when the group ends; one whose coordinator was killed
 * outright is found and removed by the next coordinator on the machine.
 */

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runtimeParent } from '@sluice/collectives';
import { isAlive, ownIdentity } from '../run/processIdentity.ts';

const OWNER_FILE = 'owner.json';

/** Notes in a socket directory that this process owns it. */
export function claimRuntimeDirectory(directory: string): void {
  writeFileSync(join(directory, OWNER_FILE), JSON.stringify(ownIdentity()));
}

export function removeRuntimeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}

/**
 * Removes the socket directories of dead owners.
 * @throws SLUICE_E_TEMPORARY_DIRECTORY
 * @returns the names of those that were removed
 */
export function sweepRuntimeDirectories(parent: string = runtimeParent()): string[] {
  const names = readdirSync(parent).filter((name) => name.startsWith('sluice-'));
  return names.filter((name) => {
    if (!isAbandoned(join(parent, name))) return false;
    removeRuntimeDirectory(join(parent, name));
    return true;
  });
}

/** A directory that no coordinator has claimed, or that another user owns, is left alone. */
function isAbandoned(directory: string): boolean {
  try {
    const owner = JSON.parse(readFileSync(join(directory, OWNER_FILE), 'utf8'));
    return typeof owner?.pid === 'number' && !isAlive(owner);
  } catch {
    return false;
  }
}
