/** Where runs lie. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { runDirectory } from '../run/runDirectory.ts';

/** How deep below `runs/` a run may lie: those of an experiment lie in a folder of their own. */
const DEPTH = 3;

export function runsBelow(folder: string, depth = DEPTH): string[] {
  if (depth === 0 || !existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (!entry.isDirectory()) return [];
    const run = runDirectory(join(folder, entry.name));
    return existsSync(run.journal) ? [run.path] : runsBelow(run.path, depth - 1);
  });
}
