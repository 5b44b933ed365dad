/** What was compiled of kernels, in `packages/engine/build/cuda`, by the hash of all that went into it. It may be deleted. */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildDirectory } from '../native.ts';

const folder = join(buildDirectory, 'cuda');

export function hashOf(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 20);
}

/** Where a file of the cache is, or would be. */
export function cachePath(name: string): string {
  return join(folder, name);
}

/**
 * The path of a file in the cache, made if it is not there. Several processes may make it at once.
 * @param make writes it to the path that it is given
 */
export function cachedFile(name: string, make: (path: string) => void): string {
  const path = cachePath(name);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  const own = `${path}.${process.pid}`;
  try {
    make(own);
    renameSync(own, path);
  } finally {
    rmSync(own, { force: true });
  }
  return path;
}
