/** The copies in a host's memory that the workers of this process keep: removed with it, and those of dead ones before it begins. */

import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { memoryOf, memoryRoot } from '@sluice/train';
import { processStart } from '../run/processIdentity.ts';

/** Makes room that processes of this host which were killed have left occupied. */
export function sweepHostMemory(): void {
  for (const name of readdirSync(memoryRoot())) {
    const pid = /-(\d+)$/.exec(name)?.[1];
    const path = join(memoryRoot(), name);
    // Containers may share their memory, but know nothing of each other's processes.
    if (pid === undefined || path !== memoryOf(Number(pid))) continue;
    if (processStart(Number(pid)) === undefined) removeQuietly(path);
  }
}

export function releaseHostMemory(): void {
  removeQuietly(memoryOf(process.pid));
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // Another user's, perhaps: room that is missing is told where it is missed.
  }
}
