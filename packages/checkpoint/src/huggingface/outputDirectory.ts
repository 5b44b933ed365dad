import { readdir } from 'node:fs/promises';
import { makeDirectories, SluiceError, writeError } from '@sluice/core';

/**
 * Makes a directory for what is to be written, unless it is there and empty.
 * @throws SLUICE_E_OUTPUT_EXISTS when something is in it; SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL
 */
export async function makeOutputDirectory(path: string): Promise<void> {
  makeDirectories(path);
  const names = await readdir(path).catch((error) => {
    throw writeError(path, error);
  });
  if (names.length === 0) return;
  throw new SluiceError('SLUICE_E_OUTPUT_EXISTS', `${path} is not empty: it holds ${names[0]}.`, {
    details: { path, names: names.slice(0, 10) },
  });
}
