import { readdirSync, statSync } from 'node:fs';
import { basename, join, sep } from 'node:path';
import { SluiceError } from '@sluice/core';
import picomatch from 'picomatch';
import type { SourceFile } from './source.ts';

/**
 * The files that a path means: itself, or those below the folder whose relative paths match a glob pattern, in the
 * order of their names' code units.
 * @throws SluiceError SLUICE_E_FILE_MISSING when the path does not exist, SLUICE_E_DATA_EMPTY when no file matches
 */
export function listFiles(path: string, include: readonly string[]): SourceFile[] {
  if (!statOf(path).isDirectory()) return [sourceFile(path, basename(path))];
  const matches = picomatch([...include], { dot: false });
  const names = readdirSync(path, { recursive: true, encoding: 'utf8' })
    .map((name) => name.split(sep).join('/'))
    .filter((name) => matches(name))
    .sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const files = names.flatMap((name) => {
    const file = join(path, name);
    return statOf(file).isFile() ? [sourceFile(file, name)] : [];
  });
  if (files.length === 0) {
    throw new SluiceError('SLUICE_E_DATA_EMPTY', `No file in ${path} matches ${include.join(', ')}.`, {
      details: { path, include },
    });
  }
  return files;
}

export function sourceFile(path: string, name: string): SourceFile {
  const { size, mtimeMs } = statOf(path);
  return { path, name, size, modified: mtimeMs };
}

function statOf(path: string) {
  try {
    return statSync(path);
  } catch (error) {
    throw new SluiceError('SLUICE_E_FILE_MISSING', `The data source ${path} cannot be read.`, {
      details: { path, errno: (error as NodeJS.ErrnoException).code },
      cause: error,
    });
  }
}
