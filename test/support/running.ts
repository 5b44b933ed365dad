/** A child process, its output, and its end. */

import type { ChildProcess } from 'node:child_process';

export interface Running {
  readonly child: ChildProcess;
  /** Resolves when the process has ended and all its output was read. */
  readonly ended: Promise<Ended>;
  /** Resolves with all of standard error so far when it has shown `text`; rejects when the process ends before. */
  shown(text: string): Promise<string>;
  /** Resolves when what standard error shows from now on matches; rejects when the process ends before. */
  showsNext(pattern: RegExp): Promise<void>;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Collects what a process writes, which was started with pipes for its output. */
export function watchProcess(child: ChildProcess): Running {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk) => {
    stdout += chunk;
  });
  const watchers = new Set<() => void>();
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
    for (const watch of watchers) watch();
  });
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  const once = (isShown: () => boolean, what: string) =>
    new Promise<void>((resolve, reject) => {
      const watch = () => {
        if (!isShown()) return;
        watchers.delete(watch);
        resolve();
      };
      watchers.add(watch);
      watch();
      ended.then(() => reject(new Error(`${what} was never shown:\n${stderr}`)));
    });
  const shown = async (text: string) => {
    await once(() => stderr.includes(text), `"${text}"`);
    return stderr;
  };
  const showsNext = (pattern: RegExp) => {
    const from = stderr.length;
    return once(() => pattern.test(stderr.slice(from)), String(pattern));
  };
  return { child, ended, shown, showsNext };
}
