/** Writing files so that a crash, a power cut or a full disk at any moment never leaves a half-written one under its name. */

import { randomBytes } from 'node:crypto';
import { existsSync, fstatSync, ftruncateSync, mkdirSync, statSync, writeSync } from 'node:fs';
import { type FileHandle, open, rename, rmdir, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { SluiceError } from './errors.ts';
import { writeError } from './systemErrors.ts';

/** A file that is open for writing. */
export interface WritableFile {
  /** Writes all the bytes at `position`. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** Forces what was written to the disk. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The operations by which anything durable is written; a test replaces them to fail, or to stop, at a given one. */
export interface FileOperations {
  /** Makes a new, empty file; fails where one exists. */
  create(path: string): Promise<WritableFile>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Makes the directory and those above it, where they do not exist. */
  makeDirectory(path: string): Promise<void>;
  /** Removes an empty directory. */
  removeDirectory(path: string): Promise<void>;
  /** Forces the names in a directory to the disk. */
  syncDirectory(path: string): Promise<void>;
}

class NodeFile implements WritableFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  }

  sync(): Promise<void> {
    return this.#handle.sync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/**
 * Makes a directory and those above it, where they do not exist. Node's own recursive mkdir says ENOENT on a read-only file
 * system, and never ends where a directory takes no new ones, as /proc.
 * @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL
 */
export function makeDirectories(path: string): void {
  try {
    makeDirectory(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENOENT') throw writeError(path, error);
    throw new SluiceError('SLUICE_E_FILE_UNWRITABLE', `Cannot make the directory ${path} (${code}).`, {
      details: { path, errno: code },
      cause: error,
    });
  }
}

function makeDirectory(path: string, parentsToo = true): void {
  try {
    mkdirSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' && parentsToo && dirname(path) !== path) {
      makeDirectory(dirname(path));
      makeDirectory(path, false);
    } else if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw error;
    }
  }
}

/** The operating system's files. */
export const nodeFiles: FileOperations = {
  create: async (path) => new NodeFile(await open(path, 'wx')),
  rename,
  unlink,
  makeDirectory: async (path) => makeDirectories(path),
  removeDirectory: rmdir,
  syncDirectory: async (path) => {
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

/** As `writeError`, of a file that is to be made: that its directory is missing is said as such. */
export function fileError(path: string, error: unknown): unknown {
  if ((error as NodeJS.ErrnoException)?.code !== 'ENOENT') return writeError(path, error);
  // One that is there has a link in it that leads nowhere.
  const message = existsSync(dirname(path))
    ? `Cannot write ${path} (ENOENT).`
    : `The directory ${dirname(path)} does not exist.`;
  return new SluiceError('SLUICE_E_FILE_MISSING', message, { details: { path }, cause: error });
}

/** The beginning of the names of files that are still being written. */
export const TEMPORARY_PREFIX = '.writing-';

/**
 * Writes a file under a temporary name beside its place, forces it to the disk, and only then gives it its name.
 * The name itself is durable once `files.syncDirectory` has been called, which is left to the caller.
 * @param fill writes the content
 * @returns what `fill` returned
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_FILE_MISSING (no such directory); then nothing is
 *   left, and a file that had the name before is intact
 */
export async function createFile<T>(
  path: string,
  fill: (file: WritableFile) => Promise<T>,
  files: FileOperations = nodeFiles,
): Promise<T> {
  const suffix = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const temporary = join(dirname(path), `${TEMPORARY_PREFIX}${basename(path)}-${suffix}`);
  let created = false;
  try {
    const file = await files.create(temporary);
    created = true;
    let result: T;
    try {
      result = await fill(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await files.rename(temporary, path);
    return result;
  } catch (error) {
    // What matters is the first error; a temporary file that cannot be removed is swept later.
    if (created) await files.unlink(temporary).catch(() => undefined);
    throw fileError(path, error);
  }
}

/**
 * Writes a whole file so that, whatever happens, there is either the old content or the new under its name; durable
 * when the promise resolves.
 * @throws as `createFile`
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  files: FileOperations = nodeFiles,
): Promise<void> {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  await createFile(path, (file) => file.write(bytes, 0), files);
  try {
    await files.syncDirectory(dirname(path));
  } catch (error) {
    throw fileError(path, error);
  }
}

/**
 * Adds bytes at the end of a file. When it throws, the file is as it was before: a disk that fills up takes a part of them
 * first, on which the next line would be written.
 * @param file open for appending
 * @param path of the file, for the message
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export function appendWhole(file: number, path: string, bytes: Uint8Array): void {
  let size: number | undefined;
  try {
    size = fstatSync(file).size;
    for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
  } catch (error) {
    if (size !== undefined) cutBack(file, size);
    throw writeError(path, error);
  }
}

/** A disk that fails altogether may refuse this too; the first error is the one to tell. */
function cutBack(file: number, size: number): void {
  try {
    ftruncateSync(file, size);
  } catch {
    // Readers pass over a torn line.
  }
}
