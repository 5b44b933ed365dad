/**
 * The name that all processes of a run carry in their environment, on every host: by it `sluice ps` and `sluice stop` find those
 * that nobody owns any more. It is no secret.
 */

import { randomBytes } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { type JournalEntry, startOf } from './journal.ts';

export const RUN_VARIABLE = 'SLUICE_RUN';

/** What tells a run from another one of the same path, which was there before or is on another machine. */
export function newRunId(): string {
  return randomBytes(6).toString('hex');
}

/** The id of a run; undefined where it has not begun. */
export function runId(journal: readonly JournalEntry[]): string | undefined {
  const start = startOf(journal);
  // Runs from before there were ids have at least a time at which they began.
  return start && (start.id ?? start.time);
}

/** The token of a run: a copy of it, which has its id, is at another path. */
export function runToken(path: string, id: string): string {
  return `${id}:${realPath(resolve(path))}`;
}

/** The path within a token. */
export function pathOfToken(token: string): string {
  return token.replace(/^[^/\\]*:/, '');
}

/** Without symbolic links, as far as it exists. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(realPath(parent), basename(path));
  }
}
