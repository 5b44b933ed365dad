/** Files as streams of text: unpacked, decoded, and never held whole. */

import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { SluiceError } from '@sluice/core';
import type { TextOptions } from '../recipe.ts';

/**
 * The text of a file, in chunks as they are read.
 * @throws SluiceError SLUICE_E_DATA_ENCODING for malformed bytes (unless told otherwise) and damaged compression
 */
export async function* textChunks(
  path: string,
  { encoding, invalidBytes }: Pick<TextOptions, 'encoding' | 'invalidBytes'>,
): AsyncGenerator<string> {
  const decoder = new TextDecoder(encoding, { fatal: invalidBytes === 'error' });
  const tidy = (text: string): string => (invalidBytes === 'drop' ? text.replaceAll('\ufffd', '') : text);
  let position = 0;
  try {
    for await (const chunk of byteChunks(path)) {
      yield tidy(decoder.decode(chunk, { stream: true }));
      position += chunk.length;
    }
    yield tidy(decoder.decode());
  } catch (error) {
    const { code, message, syscall } = error as NodeJS.ErrnoException;
    if (syscall !== undefined) {
      throw new SluiceError('SLUICE_E_FILE_MISSING', `${path} cannot be read (${code}).`, {
        details: { path, errno: code },
        cause: error,
      });
    }
    if (code !== 'ERR_ENCODING_INVALID_ENCODED_DATA' && !code?.startsWith('Z_')) throw error;
    const reason = code.startsWith('Z_') ? `damaged compression: ${message}` : `not ${encoding}`;
    throw new SluiceError('SLUICE_E_DATA_ENCODING', `${path} is ${reason}, near byte ${position}.`, {
      details: { path, position, encoding },
      cause: error,
    });
  }
}

async function* byteChunks(path: string): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path, { highWaterMark: 1 << 18 });
  if (!/\.(gz|dz)$/.test(path)) {
    yield* file as AsyncIterable<Buffer>;
    return;
  }
  const unpacked = createGunzip({ chunkSize: 1 << 18 });
  file.on('error', (error) => unpacked.destroy(error));
  try {
    yield* file.pipe(unpacked) as AsyncIterable<Buffer>;
  } finally {
    file.destroy();
  }
}
