import { existsSync } from 'node:fs';
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectories, SluiceError, writeError } from '@sluice/core';

/**
 * Fills a directory that is new or empty. When that fails, it is empty again, or gone if it was new.
 * @param fill writes into it
 * @returns what `fill` returned
 * @throws SLUICE_E_OUTPUT_EXISTS when something is in it; SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL; what `fill` throws
 */
export async function fillOutputDirectory<T>(path: string, fill: () => Promise<T>): Promise<T> {
  const isNew = !existsSync(path);
  makeDirectories(path);
  await refuseContent(path);
  try {
    return await fill();
  } catch (error) {
    // What matters is the first error.
    await clear(path, isNew).catch(() => undefined);
    throw error;
  }
}

async function refuseContent(path: string): Promise<void> {
  const names = await readdir(path).catch((error) => {
    throw writeError(path, error);
  });
  if (names.length === 0) return;
  throw new SluiceError('SLUICE_E_OUTPUT_EXISTS', `${path} is not empty: it holds ${names[0]}.`, {
    details: { path, names: names.slice(0, 10) },
  });
}

async function clear(path: string, itselfToo: boolean): Promise<void> {
  for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true });
  if (itselfToo) await rmdir(path);
}
