/** A corpus is written in a folder of the process that prepares it, and gets its name when it is whole. */

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectories, writeError } from '@sluice/core';

/** A new folder for this process beside the final one, after those of processes that died were removed. */
export function makeWorkDirectory(outputRoot: string, name: string): string {
  const prefix = `.${name}.partial-`;
  try {
    makeDirectories(outputRoot);
    for (const entry of readdirSync(outputRoot)) {
      if (entry.startsWith(prefix) && !isAlive(Number(entry.slice(prefix.length)))) {
        rmSync(join(outputRoot, entry), { recursive: true, force: true });
      }
    }
    const work = join(outputRoot, `${prefix}${process.pid}`);
    rmSync(work, { recursive: true, force: true });
    mkdirSync(work);
    return work;
  } catch (error) {
    throw writeError(outputRoot, error);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Puts a finished folder under its name. A process that reads the one before keeps its open files. Where another
 * process puts the same corpus there at the same moment, the last one stays.
 */
export function replaceDirectory(work: string, directory: string): void {
  const old = `${work}-old`;
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
