/** Reading a file of text that a user names. */

import { readFileSync } from 'node:fs';
import { SluiceError } from './errors.ts';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  ENOTDIR: 'does not exist',
  EISDIR: 'is a directory',
};

/**
 * The text of a UTF-8 file, without a byte order mark.
 * @param namedAt where the path was written, when that is not the command line; part of the message
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING
 */
export function readTextFile(path: string, namedAt?: string): string {
  const place = namedAt === undefined ? '' : `, named at ${namedAt},`;
  const details = { path, ...(namedAt !== undefined && { namedAt }) };
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reason = REASONS[code ?? ''] ?? `cannot be read (${code})`;
    throw new SluiceError('SLUICE_E_FILE_MISSING', `The file ${path}${place} ${reason}.`, {
      details,
      cause: error,
    });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new SluiceError('SLUICE_E_DATA_ENCODING', `The file ${path}${place} is not UTF-8 text.`, {
      details,
      cause: error,
    });
  }
}
