/** A file of plain text that the user names. */

import { readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';

/**
 * The text of a UTF-8 file, without a byte order mark.
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING
 */
export function readTextFile(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new SluiceError('SLUICE_E_FILE_MISSING', `The file ${path} cannot be read (${code}).`, {
      details: { path },
      cause: error,
    });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new SluiceError('SLUICE_E_DATA_ENCODING', `${path} is not UTF-8 text.`, {
      details: { path },
      cause: error,
    });
  }
}
