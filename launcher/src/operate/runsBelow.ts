/** Where runs lie. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { runDirectory } from '../run/runDirectory.ts';

/** How deep below `runs/` a run may lie: those of an experiment lie in a folder of their own. */
const DEPTH = 3;

export function runsBelow(folder: string, depth = DEPTH): string[] {
  if (depth === 0) return [];
  return foldersIn(folder).flatMap((path) => {
    const run = runDirectory(path);
    return existsSync(run.journal) ? [run.path] : runsBelow(run.path, depth - 1);
  });
}

/** Those that are not there, or cannot be read, hold nothing for us. */
export function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(folder, name))
      .sort();
  } catch {
    return [];
  }
}
