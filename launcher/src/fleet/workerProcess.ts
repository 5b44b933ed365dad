/** A worker process of this machine, started by the coordinator itself or by an agent. */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { StartedWorker, WorkerEnd, WorkerOrder } from './host.ts';
import { MemoryWatch } from './memoryKills.ts';

/**
 * A step leaves little garbage, but while modules load V8's young generation would grow by some 30 MB, which count in the
 * worker's peak memory.
 */
const WORKER_FLAGS = ['--max-semi-space-size=2'];

/** Stacks that name the sources' lines, where somebody looks for a fault: reading the maps takes a seventh of a worker's start. */
const DEBUG_FLAGS = ['--enable-source-maps'];

/**
 * Starts a worker as a child of this process, with which it ends.
 * @param entry program of the worker; the trainer's own when left out
 */
export function startWorkerProcess(
  { invitation, environment, log }: WorkerOrder,
  entry: string = fileURLToPath(new URL('../worker.js', import.meta.url)),
): StartedWorker {
  const debugFlags = process.env.SLUICE_DEBUG ? DEBUG_FLAGS : [];
  // Node starts in no directory that is gone, and a run may outlive the one that it was started in.
  const cwd = existsSync(process.cwd()) ? process.cwd() : dirname(entry);
  const child = spawn(process.execPath, [...WORKER_FLAGS, ...debugFlags, entry], {
    cwd,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // In a process group of its own: Ctrl-C on the terminal is for the coordinator, which stops the workers in order.
    detached: true,
  });
  for (const stream of [child.stdout, child.stderr]) if (stream) forwardLines(stream, log);
  const memory = new MemoryWatch();
  let isKilledByUs = false;
  const ended = new Promise<WorkerEnd>((resolve) => {
    child.once('close', (exitCode, signal) => {
      const why = signal === 'SIGKILL' && !isKilledByUs ? memory.explain() : '';
      resolve({ how: signal ? `signal ${signal}${why}` : `exit code ${exitCode}`, exitCode, signal });
    });
    child.once('error', (error) =>
      resolve({ how: `failing to start (${error.message})`, exitCode: null, signal: null }),
    );
  });
  void ended.then(() => memory.end());
  // It may have ended by now, which `ended` tells.
  child.send({ ...invitation, parentPid: process.pid }, () => {});
  return {
    pid: child.pid,
    ended,
    kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      isKilledByUs = true;
      child.kill('SIGKILL');
    },
  };
}

function forwardLines(stream: Readable, forward: (line: string) => void): void {
  createInterface({ input: stream }).on('line', forward);
}
