/**
 * The directory of a run's sockets. The path of a socket has room for about a hundred bytes, so that a long TMPDIR (a cluster's
 * scratch) cannot serve; the system's own directory of temporary files is taken then.
 */

import { accessSync, constants, mkdtempSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { SluiceError } from '@sluice/core';

/** Bytes of a socket's path, without the zero at its end: `sun_path` of unix(7), and of macOS. */
const SOCKET_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

/** The longest of the names below such a directory, of the directory itself and of a worker's socket. */
const LONGEST_NAME = '/sluice-XXXXXX/rank-99999-4194304';

/** Where else sockets may lie. */
const SHORT_DIRECTORY = '/tmp';

/**
 * Where directories of sockets are made: TMPDIR, or /tmp where that is too long.
 * @throws SLUICE_E_TEMPORARY_DIRECTORY when TMPDIR, or what takes its place, is no directory that takes new ones
 */
export function runtimeParent(temporary = tmpdir()): string {
  const directory = resolve(temporary);
  refuseUnusable(directory);
  if (Buffer.byteLength(directory + LONGEST_NAME) <= SOCKET_PATH_BYTES) return directory;
  refuseUnusable(SHORT_DIRECTORY, `TMPDIR (${directory}) is too long for the path of a socket, and `);
  return SHORT_DIRECTORY;
}

/** Makes a directory for the sockets of one run. @throws SLUICE_E_TEMPORARY_DIRECTORY, SLUICE_E_DISK_FULL */
export function makeRuntimeDirectory(): string {
  const parent = runtimeParent();
  try {
    return mkdtempSync(join(parent, 'sluice-'));
  } catch (error) {
    throw unusable(parent, `takes no new directory (${(error as NodeJS.ErrnoException).code})`, '', error);
  }
}

function refuseUnusable(directory: string, before = ''): void {
  const found = statSync(directory, { throwIfNoEntry: false });
  if (found === undefined) throw unusable(directory, 'does not exist', before);
  if (!found.isDirectory()) throw unusable(directory, 'is a file', before);
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw unusable(directory, `cannot be written (${(error as NodeJS.ErrnoException).code})`, before, error);
  }
}

function unusable(directory: string, why: string, before: string, cause?: unknown): SluiceError {
  return new SluiceError(
    'SLUICE_E_TEMPORARY_DIRECTORY',
    `${before}${before === '' ? 'The directory of temporary files' : 'the directory'} ${directory} ${why}.`,
    { details: { directory, TMPDIR: process.env.TMPDIR }, cause },
  );
}
