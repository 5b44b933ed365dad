/**
 * What the workers of this process keep on this host: copies in its memory, and what is on its way between them and the
 * coordinator. It is removed with this process, and that of dead ones before it begins.
 */

import { readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { collectedBy, memoryOf } from '@sluice/train';
import { processStart } from '../run/processIdentity.ts';

const FOLDERS = [memoryOf, collectedBy];

/** Makes room that processes of this host which were killed have left occupied. */
export function sweepHostMemory(): void {
  for (const folderOf of FOLDERS) {
    const root = dirname(folderOf(process.pid));
    for (const name of namesIn(root)) {
      const pid = /-(\d+)$/.exec(name)?.[1];
      const path = join(root, name);
      // Another container's processes are not seen from here.
      if (pid === undefined || path !== folderOf(Number(pid))) continue;
      if (processStart(Number(pid)) === undefined) removeQuietly(path);
    }
  }
}

export function releaseHostMemory(): void {
  for (const folderOf of FOLDERS) removeQuietly(folderOf(process.pid));
}

function namesIn(root: string): string[] {
  try {
    return readdirSync(root);
  } catch {
    return [];
  }
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // Another user's, perhaps: room that is missing is told where it is missed.
  }
}
