/** A run that is started as a user starts it, on this machine or on agents of it, and whose processes can be got at. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DETOUR_VARIABLE, type Detour, DetourService, TcpProxy } from '@sluice/collectives';
import { freePort } from '../fleet/address.ts';
import { makeKeyFile } from '../fleet/keyFile.ts';
import { BEAT_MS, BEATS_UNTIL_LOST } from '../fleet/protocol.ts';
import { descendants, isWorker, type ProcessEntry } from '../operate/processes.ts';
import { PROGRAM } from '../program.ts';
import { followingParent } from '../signals/parentWatch.ts';

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

/** An agent that stands for a host, and its way to the coordinator. */
interface AbusedHost {
  readonly name: string;
  readonly words: readonly string[];
  readonly link: TcpProxy;
  agent: Started;
}

/** How long a host stands still, or its way to the coordinator is cut: longer than the coordinator waits for a sign of life, ms. */
const HOST_AWAY_MS = (BEATS_UNTIL_LOST + 3) * BEAT_MS;

/** How long agents look for a coordinator: one that is cut off as the run ends never hears of it, and is waited for. */
const PATIENCE_SECONDS = 60;

export class AbusedRun {
  readonly runDir: string;
  readonly #options: AbusedRunOptions;
  readonly #where: readonly string[] = [];
  readonly #keyFile: string;
  readonly #port: number;
  readonly #hosts: AbusedHost[] = [];
  /** The ways between workers of several hosts. */
  #ways: DetourService | undefined;
  #coordinator: Started | undefined;
  #isEnding = false;

  static async start(options: AbusedRunOptions): Promise<AbusedRun> {
    const run = new AbusedRun(options, options.agents > 0 ? await freePort() : 0);
    options.signal.addEventListener('abort', () => run.kill());
    run.startCoordinator();
    if (options.agents > 1) run.#ways = await DetourService.open();
    for (let i = 0; i < options.agents; i++) await run.#addHost(i);
    return run;
  }

  private constructor(options: AbusedRunOptions, port: number) {
    this.#options = options;
    this.runDir = options.runDir;
    this.#keyFile = `${options.runDir}.key`;
    this.#port = port;
    if (options.agents === 0) return;
    makeKeyFile(this.#keyFile);
    const [count, where] = [String(options.agents), `tcp://127.0.0.1:${port}`];
    this.#where = ['--on', 'agents', '--nodes', count, '--listen', where, '--key-file', this.#keyFile];
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
    return this.#roots().flatMap((pid) => descendants(pid).filter(isWorker));
  }

  killCoordinator(): void {
    this.#coordinator?.child.kill('SIGKILL');
  }

  /** Asks for an orderly end, as Ctrl-C does. */
  stopCoordinator(): void {
    this.#coordinator?.child.kill('SIGTERM');
  }

  /** Hosts that have workers at the moment. */
  busyHosts(): string[] {
    return this.#hosts.flatMap(({ name, agent }) => (workersOf(agent).length > 0 ? [name] : []));
  }

  /** The ways by which workers reach those of other hosts, as far as they are in use. */
  detours(): readonly Detour[] {
    return this.#ways?.detours ?? [];
  }

  /** Kills an agent, with which its workers end; another of the same node follows, as a scheduler or ssh starts one. */
  killAgent(host: string): void {
    this.#host(host).agent.child.kill('SIGKILL');
  }

  /** Kills an agent and its workers at once, as a power cut does; another agent follows. */
  killHost(host: string): void {
    for (const pid of this.#processesOf(host)) signalQuietly(pid, 'SIGKILL');
  }

  /** Lets an agent and its workers stand still for `HOST_AWAY_MS`; this does not wait for that. */
  freezeHost(host: string): void {
    const pids = this.#processesOf(host);
    for (const pid of pids) signalQuietly(pid, 'SIGSTOP');
    void delay(HOST_AWAY_MS, undefined, { ref: false }).then(() => {
      for (const pid of pids) signalQuietly(pid, 'SIGCONT');
    });
  }

  /** Loses what an agent and the coordinator send each other for `HOST_AWAY_MS`, and resets the connection after that. */
  cutHost(host: string): void {
    const { link } = this.#host(host);
    link.swallow();
    void delay(HOST_AWAY_MS, undefined, { ref: false }).then(() => {
      link.cut();
      link.mend();
    });
  }

  /** Bytes of metrics that were written, which grow with each step. */
  metricsBytes(): number {
    return statSync(join(this.runDir, 'metrics.jsonl'), { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Ends all processes by force. */
  kill(): void {
    this.#isEnding = true;
    const roots = this.#roots();
    for (const pid of [...roots.flatMap((root) => descendants(root).map((entry) => entry.pid)), ...roots]) {
      signalQuietly(pid, 'SIGKILL');
    }
    for (const { link } of this.#hosts) void link.close();
    void this.#ways?.close();
    this.#ways = undefined;
  }

  /** Waits until all processes have ended. */
  async end(): Promise<void> {
    this.#isEnding = true;
    await this.#coordinator?.ended;
    await Promise.all(this.#hosts.map(({ agent }) => agent.ended));
  }

  #roots(): number[] {
    const started = [this.#coordinator, ...this.#hosts.map(({ agent }) => agent)];
    return started.flatMap((one) => one?.child.pid ?? []);
  }

  #host(name: string): AbusedHost {
    return this.#hosts.find((host) => host.name === name)!;
  }

  /** The agent first: nothing of what it does about the others is to happen. */
  #processesOf(host: string): number[] {
    const { pid } = this.#host(host).agent.child;
    return pid === undefined ? [] : [pid, ...descendants(pid).map((entry) => entry.pid)];
  }

  async #addHost(index: number): Promise<void> {
    const name = `h${index + 1}`;
    const link = await TcpProxy.open(this.#port);
    const place = ['--node', name, '--node-rank', String(index)];
    const joins = ['--join', `tcp://127.0.0.1:${link.port}`, '--key-file', this.#keyFile];
    const words = ['agent', ...joins, '--patience', String(PATIENCE_SECONDS), ...place];
    const host = { name, words, link, agent: this.#startAgent(words) };
    this.#hosts.push(host);
    this.#startAgain(host);
  }

  #startAgent(words: readonly string[]): Started {
    return startProcess(words, this.#ways && { [DETOUR_VARIABLE]: String(this.#ways.port) });
  }

  /** As long as it ends by anything but the coordinator's word. */
  #startAgain(host: AbusedHost): void {
    void host.agent.ended.then(({ code }) => {
      if (code === 0 || this.#isEnding) return;
      host.agent = this.#startAgent(host.words);
      this.#startAgain(host);
    });
  }
}

function workersOf({ child: { pid } }: Started): ProcessEntry[] {
  return pid === undefined ? [] : descendants(pid).filter(isWorker);
}

function startProcess(words: readonly string[], environment: NodeJS.ProcessEnv = {}): Started {
  const child = spawn(process.execPath, [PROGRAM, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Where this process is killed, runs that nobody looks at any more come to an orderly end.
    env: { ...followingParent(), ...environment },
  });
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

/** @returns whether there was such a process */
export function signalQuietly(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}
