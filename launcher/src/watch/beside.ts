/** The live page of a run that this process coordinates, in a process of its own that ends with this one. */

import { type ChildProcess, spawn } from 'node:child_process';
import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import { PROGRAM } from '../program.ts';
import { followingParent } from '../signals/parentWatch.ts';

/** Training does not wait longer for the page's address, ms. */
const ADDRESS_LIMIT_MS = 10_000;
/** Whatever else wants the processor comes first. */
const NICENESS = 10;

export interface BesideOptions {
  readonly watch?: boolean | undefined;
  readonly watchPort?: number | undefined;
}

/**
 * Starts the page, if it was asked for. That it cannot be started keeps nobody from training.
 * @returns ends it
 */
export async function watchBeside(
  runPath: string,
  { watch = false, watchPort }: BesideOptions,
  log: (line: string) => void,
): Promise<() => void> {
  if (!watch) return () => {};
  const port = watchPort === undefined ? [] : ['--port', String(watchPort)];
  const child = spawn(process.execPath, [PROGRAM, 'watch', runPath, ...port], {
    env: followingParent(),
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.on('error', (error) => log(`the page could not be started: ${error.message}`));
  const line = await firstLine(child);
  log(line ?? 'the page could not be started');
  try {
    if (child.pid !== undefined) setPriority(child.pid, NICENESS);
  } catch {
    // It has ended, or may not be told so.
  }
  return () => child.kill('SIGTERM');
}

function firstLine(child: ChildProcess): Promise<string | undefined> {
  return new Promise((resolve) => {
    const lines = createInterface({ input: child.stderr! });
    const limit = setTimeout(() => resolve(undefined), ADDRESS_LIMIT_MS);
    lines.once('line', resolve);
    lines.once('close', () => resolve(undefined));
    // The run's own end is what ends a run.
    child.unref();
    (child.stderr as { unref?: () => void }).unref?.();
    lines.once('line', () => clearTimeout(limit));
    lines.once('close', () => clearTimeout(limit));
  });
}
