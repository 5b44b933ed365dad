/** Text of Debian packages: downloaded with apt-get, unpacked with dpkg, never installed. */

import { execFile } from 'node:child_process';
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeDirectories, SluiceError, writeError } from '@sluice/core';

const execute = promisify(execFile);

/** Where a package's files are once it was unpacked. */
export function debianPackageFolder(name: string, downloadRoot: string): string {
  return join(downloadRoot, 'debian', name);
}

/**
 * Makes sure that a package is unpacked below `downloadRoot`. A package that is there is not looked for again, so
 * that a corpus stays the same until its folder is deleted.
 * @returns the folder that the package's files are in
 * @throws SluiceError SLUICE_E_DEBIAN_TOOLS_MISSING, SLUICE_E_DEBIAN_DOWNLOAD
 */
export async function unpackDebianPackage(
  name: string,
  downloadRoot: string,
  signal?: AbortSignal,
): Promise<string> {
  const root = join(downloadRoot, 'debian');
  const folder = debianPackageFolder(name, downloadRoot);
  if (existsSync(folder)) return folder;
  // The folder gets its name when it is whole; until then it belongs to this process.
  const partial = join(root, `.${name}.partial-${process.pid}`);
  makeDirectories(join(partial, 'files'));
  try {
    await tool('apt-get', ['download', name], name, partial, signal);
    const archive = readdirSync(partial).find((file) => file.endsWith('.deb'));
    if (archive === undefined) throw downloadError(name, 'apt-get left no .deb file');
    await tool('dpkg', ['-x', archive, 'files'], name, partial, signal);
    putInPlace(join(partial, 'files'), folder);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return folder;
}

/** Puts the unpacked files into their place, unless another process has put the same ones there meanwhile. */
function putInPlace(files: string, folder: string): void {
  try {
    renameSync(files, folder);
  } catch (error) {
    if (!existsSync(folder)) throw writeError(folder, error);
  }
}

async function tool(
  program: string,
  args: readonly string[],
  name: string,
  cwd: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await execute(program, args, { cwd, ...(signal && { signal }) });
  } catch (error) {
    signal?.throwIfAborted();
    const { code, stderr, message } = error as NodeJS.ErrnoException & { stderr?: string };
    if (code === 'ENOENT') {
      throw new SluiceError(
        'SLUICE_E_DEBIAN_TOOLS_MISSING',
        `The recipe needs ${program} to get the Debian package ${name}.`,
        {
          details: { program, package: name },
          cause: error,
        },
      );
    }
    throw downloadError(name, stderr?.trim() || message, error);
  }
}

function downloadError(name: string, reason: string, cause?: unknown): SluiceError {
  return new SluiceError(
    'SLUICE_E_DEBIAN_DOWNLOAD',
    `The Debian package ${name} could not be had: ${reason}`,
    {
      details: { package: name },
      cause,
    },
  );
}
