/** Reading a file of text that a user names. */

import { createReadStream, readFileSync } from 'node:fs';
import { SluiceError } from './errors.ts';

const PART_BYTES = 1 << 20;

const TOO_LONG = 'is longer than the half a GiB that can be read as one text';
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  ENOTDIR: 'does not exist',
  EISDIR: 'is a directory',
  ERR_STRING_TOO_LONG: TOO_LONG,
  ERR_FS_FILE_TOO_LARGE: TOO_LONG,
};

/**
 * The text of a UTF-8 file, without a byte order mark.
 * @param namedAt where the path was written, when that is not the command line; part of the message
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING
 */
export function readTextFile(path: string, namedAt?: string): string {
  try {
    return textDecoder().decode(readFileSync(path));
  } catch (error) {
    throw unreadableText(path, error, namedAt);
  }
}

/**
 * The same in parts, cut anywhere: a text may be longer than any string.
 * @param onRead told how many bytes have been read
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING
 */
export async function* readTextParts(path: string, onRead?: (bytes: number) => void): AsyncGenerator<string> {
  const decoder = textDecoder();
  const stream = createReadStream(path, { highWaterMark: PART_BYTES });
  try {
    for await (const bytes of stream) {
      onRead?.(stream.bytesRead);
      yield decoder.decode(bytes as Buffer, { stream: true });
    }
    yield decoder.decode();
  } catch (error) {
    throw unreadableText(path, error);
  }
}

function textDecoder() {
  return new TextDecoder('utf-8', { fatal: true });
}

function unreadableText(path: string, error: unknown, namedAt?: string): SluiceError {
  const { code } = error as NodeJS.ErrnoException;
  const place = namedAt === undefined ? '' : `, named at ${namedAt},`;
  const options = { details: { path, ...(namedAt !== undefined && { namedAt }) }, cause: error };
  if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') {
    return new SluiceError('SLUICE_E_DATA_ENCODING', `The file ${path}${place} is not UTF-8 text.`, options);
  }
  const reason = REASONS[code ?? ''] ?? `cannot be read (${code})`;
  return new SluiceError('SLUICE_E_FILE_MISSING', `The file ${path}${place} ${reason}.`, options);
}
