/**
 * What was compiled of kernels, in `packages/engine/build/cuda`, by the hash of all that went into it. It may be deleted. Several processes
 * may make the same at once, also those of other hosts that see the folder, in which processes may have the same numbers.
 */

import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError, writeError } from '@sluice/core';
import { buildDirectory } from '../native.ts';

export const cacheFolder = join(buildDirectory, 'cuda');

let hasWarned = false;

export function hashOf(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 20);
}

/** Where a file of the cache is, or would be. */
export function cachePath(name: string): string {
  return join(cacheFolder, name);
}

/**
 * The path of a file in the cache, made if it is not there.
 * @param make writes it to the path that it is given
 * @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL; what `make` throws
 */
export function cachedFile(name: string, make: (path: string) => void): string {
  const path = cachePath(name);
  if (existsSync(path)) return path;
  const own = `${path}.${randomUUID()}`;
  try {
    mkdirSync(cacheFolder, { recursive: true });
    make(own);
    renameSync(own, path);
  } catch (error) {
    throw writeError(path, error);
  } finally {
    if (existsSync(own)) rmSync(own);
  }
  return path;
}

/** Keeps what was made. Where that cannot be, as in an installation that others own, it is said once: it will be made anew. */
export function keep(name: string, bytes: Uint8Array): void {
  try {
    cachedFile(name, (path) => writeFileSync(path, bytes));
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    if (!hasWarned)
      process.emitWarning(
        `cuda: machine code cannot be kept, so that each process compiles its kernels anew. ${error.message}`,
      );
    hasWarned = true;
  }
}
