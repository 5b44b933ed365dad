/** Worker processes on this machine: started, watched, spoken to, and ended whatever happens. */

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ControlServer, type WaitKind } from '@sluice/collectives';
import { availableCores, SluiceError } from '@sluice/core';
import { planThreads } from './environment.ts';
import {
  claimRuntimeDirectory,
  removeRuntimeDirectory,
  sweepRuntimeDirectories,
} from './runtimeDirectory.ts';
import type { Answer, MethodName, Request, Workers } from './workers.ts';

export interface LocalWorkersOptions {
  readonly count: number;
  /** Configured threads of each worker; 0 shares the cores out. */
  readonly threads: number;
  /** Receives the workers' output line by line, with the rank in front. */
  readonly log: (line: string) => void;
  /** Last checkpoint and how to resume, as a sentence, for the message about a dead worker. */
  readonly recovery: () => string;
  /** Variables of each worker by its rank, such as its GPU; none when left out. */
  readonly environments?: readonly Readonly<Record<string, string>>[];
  /** Program of a worker; the trainer's own when left out. */
  readonly entry?: string;
}

/** How long a worker may take to end after it answered `stop`. */
const ORDERLY_END_MS = 10_000;
/** How long after a failed call a process may take to be seen dead, before the failure is told as it was answered. */
const DEATH_NOTICE_MS = 1_000;
/** Failures of a call that are usually the shadow of another worker's death. */
const CONSEQUENCES = new Set([
  'SLUICE_E_WORKER_LOST',
  'SLUICE_E_COLLECTIVE_TIMEOUT',
  'SLUICE_E_WORKER_TIMEOUT',
]);

/**
 * Starts workers and waits until all know each other.
 * @throws SLUICE_E_WORKER_DIED when one ends early; what the control server throws when they do not come up in time
 */
export async function startLocalWorkers(options: LocalWorkersOptions): Promise<Workers> {
  sweepRuntimeDirectories();
  const server = await ControlServer.listen({ worldSize: options.count });
  const workers = new LocalWorkers(server, options);
  try {
    workers.start();
    await workers.ready();
    return workers;
  } catch (error) {
    await workers.kill();
    throw error;
  }
}

/** The methods in words; a step is told by its number. */
const TASKS: Readonly<Partial<Record<MethodName, string>>> = {
  initialize: 'preparing the model',
  evaluate: 'validation',
  examine: 'examining the weights',
  save: 'saving a checkpoint',
  stop: 'stopping',
};

class LocalWorkers implements Workers {
  readonly count: number;
  readonly #server: ControlServer;
  readonly #options: LocalWorkersOptions;
  readonly #processes: WorkerProcess[] = [];
  readonly #runtimeDirectory: string | undefined;
  #firstStepTaken = false;
  /** What all the workers are carrying out. */
  #task = 'starting up';
  #ending = false;
  #death: SluiceError | undefined;

  constructor(server: ControlServer, options: LocalWorkersOptions) {
    this.count = options.count;
    this.#server = server;
    this.#options = options;
    this.#runtimeDirectory = server.workerEnv(0).SLUICE_RUNTIME_DIR;
  }

  start(): void {
    // However this process exits, its workers and their sockets go with it.
    process.once('exit', this.#abandon);
    if (this.#runtimeDirectory) claimRuntimeDirectory(this.#runtimeDirectory);
    const options = this.#options;
    const entry = options.entry ?? fileURLToPath(new URL('../worker.js', import.meta.url));
    const plan = planThreads(options.threads, options.count, availableCores().count);
    for (let rank = 0; rank < options.count; rank++) {
      const environment = {
        ...plan.environment,
        ...options.environments?.[rank],
        ...this.#server.workerEnv(rank),
      };
      const worker = startProcess(entry, rank, environment, options.log);
      this.#processes.push(worker);
      void worker.ended.then((how) => this.#noteDeath(worker, how));
    }
  }

  async ready(): Promise<void> {
    await this.#explainingDeath(this.#server.ready());
  }

  async call<Method extends MethodName>(method: Method, request: Request<Method>): Promise<Answer<Method>[]> {
    const kind = this.#waitKind(method);
    this.#task = TASKS[method] ?? `step ${(request as Request<'step'>).step}`;
    const answers = await this.#explainingDeath(
      this.#server.callAll<Answer<Method>>(method, request, { kind }),
    );
    if (method === 'step') this.#firstStepTaken = true;
    this.#task = 'waiting for its next task';
    return answers;
  }

  async stop(): Promise<void> {
    if (this.#ending) return this.kill();
    this.#ending = true;
    try {
      await this.#server.callAll('stop', {}, { kind: 'stop' });
      await Promise.race([this.#allEnded(), delay(ORDERLY_END_MS, undefined, { ref: false })]);
    } catch {
      // A worker that cannot stop in order is ended below; everything worth keeping has been saved before.
    }
    await this.kill();
  }

  async kill(): Promise<void> {
    this.#ending = true;
    this.#killAtOnce();
    await this.#allEnded();
    process.off('exit', this.#abandon);
    await this.#server.close();
  }

  readonly #abandon = (): void => {
    this.#killAtOnce();
    if (this.#runtimeDirectory) removeRuntimeDirectory(this.#runtimeDirectory);
  };

  #killAtOnce(): void {
    for (const { child } of this.#processes) {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    }
  }

  async #allEnded(): Promise<void> {
    await Promise.all(this.#processes.map((worker) => worker.ended));
  }

  #waitKind(method: MethodName): WaitKind {
    switch (method) {
      case 'initialize':
        return 'start';
      case 'step':
        return this.#firstStepTaken ? 'step' : 'firstStep';
      case 'evaluate':
      case 'diagnose':
        return 'evaluation';
      case 'examine':
        return 'save';
      case 'save':
      case 'stop':
        return method;
    }
  }

  #noteDeath(worker: WorkerProcess, how: string): void {
    if (this.#ending || this.#death) return;
    // The task is certain; what it last said of itself came with a heartbeat, and may be a moment old.
    const said = this.#server.activity(worker.rank);
    const recovery = this.#options.recovery();
    this.#death = new SluiceError(
      'SLUICE_E_WORKER_DIED',
      `Worker ${worker.rank} (process ${worker.child.pid ?? 'not started'}) ended by ${how} during: ${this.#task} (its last heartbeat: ${said}). ${recovery}`,
      {
        details: {
          rank: worker.rank,
          pid: worker.child.pid,
          exitCode: worker.child.exitCode,
          signal: worker.child.signalCode,
          task: this.#task,
          said,
        },
      },
    );
    this.#server.markLost(worker.rank, how);
  }

  /** Other workers often complain before the death of the one that they wait for is seen: the death is told instead. */
  async #explainingDeath<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      if (!(error instanceof SluiceError) || CONSEQUENCES.has(error.code)) {
        const deadline = performance.now() + DEATH_NOTICE_MS;
        while (!this.#death && !this.#ending && performance.now() < deadline) await delay(20);
      }
      throw this.#death ?? error;
    }
  }
}

interface WorkerProcess {
  readonly rank: number;
  readonly child: ChildProcess;
  /** How the process ended, in words; all that it said has been told by then. */
  readonly ended: Promise<string>;
}

/**
 * A step leaves little garbage, but while modules load V8's young generation would grow by some 30 MB, which count in the
 * worker's peak memory.
 */
const WORKER_FLAGS = ['--max-semi-space-size=2'];

/** Stacks that name the sources' lines, where somebody looks for a fault: reading the maps takes a seventh of a worker's start. */
const DEBUG_FLAGS = ['--enable-source-maps'];

function startProcess(
  entry: string,
  rank: number,
  environment: Readonly<Record<string, string>>,
  log: (line: string) => void,
): WorkerProcess {
  const debugFlags = process.env.SLUICE_DEBUG ? DEBUG_FLAGS : [];
  const child = spawn(process.execPath, [...WORKER_FLAGS, ...debugFlags, entry], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // In a process group of its own: Ctrl-C on the terminal is for the coordinator, which stops the workers in order.
    detached: true,
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream) forwardLines(stream, (line) => log(`[worker ${rank}] ${line}`));
  }
  const ended = new Promise<string>((resolve) => {
    child.once('close', (code, signal) => resolve(signal ? `signal ${signal}` : `exit code ${code}`));
    child.once('error', (error) => resolve(`failing to start (${error.message})`));
  });
  return { rank, child, ended };
}

function forwardLines(stream: Readable, forward: (line: string) => void): void {
  createInterface({ input: stream }).on('line', forward);
}
