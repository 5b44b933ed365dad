/** A run that is started as a user starts it, on this machine or on agents of it, and whose processes can be got at. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../fleet/address.ts';
import { makeKeyFile } from '../fleet/keyFile.ts';
import { descendants, isWorker, type ProcessEntry } from '../operate/processes.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));

/** How many of its last lines are kept of a process. */
const KEPT_LINES = 40;

export interface AbusedRunOptions {
  readonly config: string;
  readonly runDir: string;
  /** Flags of `sluice launch`, for a number of workers or the usual one. */
  readonly flags: (workers?: number) => readonly string[];
  /** Agents that stand for hosts; 0 for none. */
  readonly agents: number;
  readonly signal: AbortSignal;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly lines: readonly string[];
}

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

export class AbusedRun {
  readonly runDir: string;
  readonly #options: AbusedRunOptions;
  readonly #where: readonly string[] = [];
  readonly #agents: (Started | undefined)[] = [];
  readonly #agentWords: readonly string[];
  #coordinator: Started | undefined;
  #isEnding = false;

  static async start(options: AbusedRunOptions): Promise<AbusedRun> {
    const run = new AbusedRun(options, options.agents > 0 ? await freePort() : 0);
    options.signal.addEventListener('abort', () => run.kill());
    run.startCoordinator();
    for (let i = 0; i < options.agents; i++) run.#startAgent(i);
    return run;
  }

  private constructor(options: AbusedRunOptions, port: number) {
    this.#options = options;
    this.runDir = options.runDir;
    const keyFile = `${options.runDir}.key`;
    const where = `tcp://127.0.0.1:${port}`;
    this.#agentWords = ['agent', '--join', where, '--key-file', keyFile];
    if (options.agents === 0) return;
    makeKeyFile(keyFile);
    const count = String(options.agents);
    this.#where = ['--on', 'agents', '--nodes', count, '--listen', where, '--key-file', keyFile];
  }

  startCoordinator(workers?: number): void {
    const { config, runDir, flags } = this.#options;
    const words = ['launch', config, '--run-dir', runDir, '--json', ...flags(workers), ...this.#where];
    this.#coordinator = startProcess(words);
  }

  /** Resolves when the coordinator has ended, by whatever. */
  get coordinatorEnded(): Promise<Ended> {
    return this.#coordinator!.ended;
  }

  workers(): ProcessEntry[] {
    const roots = [this.#coordinator, ...this.#agents].flatMap((one) => one?.child.pid ?? []);
    return roots.flatMap((pid) => descendants(pid).filter(isWorker));
  }

  killCoordinator(): void {
    this.#coordinator?.child.kill('SIGKILL');
  }

  /** Asks for an orderly end, as Ctrl-C does. */
  stopCoordinator(): void {
    this.#coordinator?.child.kill('SIGTERM');
  }

  /** Kills an agent; another of the same node follows, as a scheduler or ssh starts one. */
  killAgent(which: number): string {
    const index = Math.floor(which * this.#agents.length);
    this.#agents[index]?.child.kill('SIGKILL');
    return `h${index + 1}`;
  }

  /** Bytes of metrics that were written, which grow with each step. */
  metricsBytes(): number {
    return statSync(join(this.runDir, 'metrics.jsonl'), { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Ends all processes by force. */
  kill(): void {
    this.#isEnding = true;
    const roots = [this.#coordinator, ...this.#agents].flatMap((one) => one?.child.pid ?? []);
    for (const pid of [...roots.flatMap((root) => descendants(root).map((entry) => entry.pid)), ...roots]) {
      killQuietly(pid);
    }
  }

  /** Waits until all processes have ended. */
  async end(): Promise<void> {
    this.#isEnding = true;
    await this.#coordinator?.ended;
    const agents = this.#agents.filter((agent) => agent !== undefined);
    await Promise.all(agents.map(({ ended }) => ended));
  }

  #startAgent(index: number): void {
    const agent = startProcess([
      ...this.#agentWords,
      '--node',
      `h${index + 1}`,
      '--node-rank',
      String(index),
    ]);
    this.#agents[index] = agent;
    void agent.ended.then(({ code }) => {
      if (code !== 0 && !this.#isEnding) this.#startAgent(index);
    });
  }
}

function startProcess(words: readonly string[]): Started {
  const child = spawn(process.execPath, [PROGRAM, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  const lines: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      lines.push(...text.split('\n').filter((line) => line !== ''));
      lines.splice(0, lines.length - KEPT_LINES);
    });
  }
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, lines }));
  return { child, ended };
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}
