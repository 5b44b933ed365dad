/** A file of plain text that the user names. */

import { readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';

/** @throws SLUICE_E_FILE_MISSING */
export function readTextFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new SluiceError('SLUICE_E_FILE_MISSING', `The file ${path} cannot be read.`, {
      details: { path },
      cause: error,
    });
  }
}
