/** Files that a user names for a command to write. */

import { accessSync, constants, statSync } from 'node:fs';
import { open, realpath, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { SluiceError } from './errors.ts';
import { createFile, nodeFiles } from './files.ts';
import { writeError } from './systemErrors.ts';

/**
 * Refuses a path that can be seen not to take a file, before what is to be written is computed.
 * @throws SLUICE_E_FILE_MISSING (no such directory), SLUICE_E_FILE_UNWRITABLE
 */
export function refuseUnwritable(path: string): void {
  if (path === '-')
    throw unwritable(path, '- would be a file of that name: write /dev/stdout for standard output, or ./-');
  const directory = dirname(resolve(path));
  try {
    // Below a file there is nothing, or, for Node before 24, something that cannot be looked at.
    const parent = statSync(directory, { throwIfNoEntry: false });
    if (!parent) {
      throw new SluiceError('SLUICE_E_FILE_MISSING', `There is no ${directory}.`, { details: { path } });
    }
    if (!parent.isDirectory()) throw unwritable(path, `${directory} is no directory`);
    const existing = statSync(path, { throwIfNoEntry: false });
    if (existing?.isDirectory()) throw unwritable(path, `${path} is a directory, not a file`);
    accessSync(existing && !existing.isFile() ? path : directory, constants.W_OK);
  } catch (error) {
    throw writeError(path, error);
  }
}

function unwritable(path: string, why: string): SluiceError {
  return new SluiceError('SLUICE_E_FILE_UNWRITABLE', `${why}.`, { details: { path } });
}

type Parts = Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>;

/**
 * Writes a file so that it is there whole, or what was there before. A symbolic link keeps leading to it; a pipe or a device,
 * which no file can replace, is written as it is.
 * @param parts text or bytes, in order, each written before the next is asked for; as a whole they may be longer than any string
 * @param signal ends the writing between two parts; nothing is left then
 * @throws SLUICE_E_FILE_MISSING (no such directory), SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL; the signal's reason
 */
export async function writeOutputFile(path: string, parts: Parts, signal?: AbortSignal): Promise<void> {
  const existing = await stat(path).catch(() => undefined);
  if (existing && !existing.isFile() && !existing.isDirectory()) return writeStream(path, parts, signal);
  const file = existing ? await realpath(path) : path;
  await createFile(file, async (output) => {
    let position = 0;
    for await (const bytes of encoded(parts, signal)) {
      await output.write(bytes, position);
      position += bytes.length;
    }
  });
  await nodeFiles.syncDirectory(dirname(file));
}

/** Pipes and most devices know no positions. */
async function writeStream(path: string, parts: Parts, signal: AbortSignal | undefined): Promise<void> {
  try {
    const handle = await open(path, 'w');
    try {
      for await (const bytes of encoded(parts, signal)) await handle.writeFile(bytes);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw writeError(path, error);
  }
}

async function* encoded(parts: Parts, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for await (const part of parts) {
    signal?.throwIfAborted();
    yield typeof part === 'string' ? Buffer.from(part) : part;
  }
}
