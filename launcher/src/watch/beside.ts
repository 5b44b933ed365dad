/** What runs beside a run that this process coordinates, in processes of their own that end with this one. */

import { type ChildProcess, spawn } from 'node:child_process';
import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import type { RunConfig } from '@sluice/train';
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
 * Starts the page, if it was asked for, and what tells an MLflow server of the run, where the configuration has one. That one of
 * them cannot be started keeps nobody from training.
 * @returns ends them
 */
export async function startBeside(
  runPath: string,
  { watch = false, watchPort }: BesideOptions,
  { observe }: Pick<RunConfig, 'observe'>,
  log: (line: string) => void,
): Promise<() => void> {
  const port = watchPort === undefined ? [] : ['--port', String(watchPort)];
  const { url, experiment } = observe?.mlflow ?? {};
  const told = [...(url ? ['--url', url] : []), ...(experiment ? ['--experiment', experiment] : [])];
  const wanted = [
    ...(watch ? [['watch', runPath, ...port]] : []),
    ...(observe?.mlflow ? [['mlflow', runPath, '--follow', ...told]] : []),
  ];
  const children = await Promise.all(wanted.map((words) => startOne(words, log)));
  return () => {
    for (const child of children) child.kill('SIGTERM');
  };
}

async function startOne(words: readonly string[], log: (line: string) => void): Promise<ChildProcess> {
  const child = spawn(process.execPath, [PROGRAM, ...words], {
    env: followingParent(),
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const what = words[0] === 'watch' ? 'the page' : 'telling MLflow';
  child.on('error', (error) => log(`${what} could not be started: ${error.message}`));
  log((await firstLine(child)) ?? `${what} could not be started`);
  try {
    if (child.pid !== undefined) setPriority(child.pid, NICENESS);
  } catch {
    // It has ended, or may not be told so.
  }
  return child;
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
