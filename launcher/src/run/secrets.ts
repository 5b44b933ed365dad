/** What a run is told by files that others need not see, and the addresses in them. */

import { readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';

/**
 * The text of a file, without the white space around it.
 * @param what it holds, for the one who misses it
 * @param asker the key of the configuration that names the file
 * @throws SLUICE_E_FILE_MISSING
 */
export function readSecret(path: string, what: string, asker?: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    const where = asker === undefined ? '' : ` (${asker})`;
    throw new SluiceError('SLUICE_E_FILE_MISSING', `Cannot read the ${what} of ${path}${where}.`, {
      details: { path },
      cause: error,
    });
  }
}

export function isHttpAddress(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}
