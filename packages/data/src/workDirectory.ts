/** A corpus is written in a folder of the process that prepares it, and gets its name when it is whole. */

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectories, processSpace, SluiceError, writeError } from '@sluice/core';
import { isCorpusFile, MANIFEST_FILE } from './manifest.ts';

/** The end of the name of a folder that makes room for its successor. */
const REPLACED = '-old';

/** Whether a process of another machine lives cannot be asked: what it has not written to for so long is abandoned, ms. */
const ABANDONED_MS = 24 * 3_600_000;

/** A new folder for this process beside the final one, after those of processes that died were removed. */
export function makeWorkDirectory(outputRoot: string, name: string): string {
  try {
    makeDirectories(outputRoot);
    for (const path of abandoned(outputRoot, name)) rmSync(path, { recursive: true, force: true });
    const work = join(outputRoot, `${workPrefix(name)}${processSpace()}-${process.pid}`);
    mkdirSync(work);
    return work;
  } catch (error) {
    throw writeError(outputRoot, error);
  }
}

/**
 * Refuses to replace what somebody else has put there.
 * @throws SLUICE_E_OUTPUT_EXISTS
 */
export function refuseForeign(directory: string): void {
  if (!existsSync(directory)) return;
  const names = readdirSync(directory);
  const foreign = names.find((name) => !isCorpusFile(name));
  if (foreign === undefined || names.includes(MANIFEST_FILE)) return;
  throw new SluiceError(
    'SLUICE_E_OUTPUT_EXISTS',
    `The corpus would take the place of ${directory}, which is none: it holds ${foreign}.`,
    { details: { path: directory, names: names.slice(0, 10) } },
  );
}

/**
 * Puts a finished folder under its name. A process that reads the one before keeps its open files. Where another
 * process puts the same corpus there at the same moment, the last one stays.
 */
export function replaceDirectory(work: string, directory: string): void {
  const old = work + REPLACED;
  for (let attempt = 1; ; attempt++) {
    rmSync(old, { recursive: true, force: true });
    try {
      if (existsSync(directory)) renameSync(directory, old);
      renameSync(work, directory);
      break;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (attempt === 10 || !['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(code ?? '')) throw error;
    }
  }
  rmSync(old, { recursive: true, force: true });
}

/** Gives a corpus its name back that a process which died was about to replace. One that cannot be written is left as it is. */
export function restoreReplaced(outputRoot: string, name: string): void {
  const directory = join(outputRoot, name);
  if (existsSync(directory) || !existsSync(outputRoot)) return;
  const old = abandoned(outputRoot, name).find((path) => path.endsWith(REPLACED));
  try {
    if (old !== undefined) renameSync(old, directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
  }
}

function workPrefix(name: string): string {
  return `.${name}.partial-`;
}

/** Folders of processes that are dead. */
function abandoned(outputRoot: string, name: string): string[] {
  const prefix = workPrefix(name);
  return readdirSync(outputRoot)
    .filter((entry) => entry.startsWith(prefix))
    .filter((entry) => {
      const [, host, pid] = /^(.*)-(\d+)(?:-old)?$/.exec(entry.slice(prefix.length)) ?? [];
      if (host === processSpace()) return Number(pid) === process.pid || !isAlive(Number(pid));
      return lastWritten(join(outputRoot, entry)) < now() - ABANDONED_MS;
    })
    .map((entry) => join(outputRoot, entry));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** ms since 1970. */
function now(): number {
  return performance.timeOrigin + performance.now();
}

/** When anything in the folder was written last, ms since 1970; now, where it is vanishing. */
function lastWritten(folder: string): number {
  try {
    return Math.max(...['.', ...readdirSync(folder)].map((file) => statSync(join(folder, file)).mtimeMs));
  } catch {
    return now();
  }
}
