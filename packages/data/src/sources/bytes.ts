/** Files as streams of bytes, unpacked, and never held whole. */

import { createReadStream } from 'node:fs';
import { SluiceError } from '@sluice/core';
import { unpack } from './compression.ts';

const CHUNK_BYTES = 1 << 18;

/**
 * The bytes of a file, unpacked where it is compressed.
 * @throws SluiceError SLUICE_E_FILE_MISSING, SLUICE_E_DATA_COMPRESSION, SLUICE_E_DATA_POINTER
 */
export function unpackedBytes(path: string): AsyncIterable<Uint8Array> {
  return unpack(path, fileBytes(path));
}

async function* fileBytes(path: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(path, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>;
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall === undefined) throw error;
    throw new SluiceError('SLUICE_E_FILE_MISSING', `${path} cannot be read (${code}).`, {
      details: { path, errno: code },
      cause: error,
    });
  }
}
