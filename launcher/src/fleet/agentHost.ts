/** A host whose agent has joined: its workers are started, watched and ended over the agent's connection. */

import type { Host, HostDevice, StartedWorker, WorkerEnd, WorkerOrder } from './host.ts';
import { HostFiles } from './hostFiles.ts';
import { type AgentFacts, BEATS_UNTIL_LOST, type CoordinatorMessages } from './protocol.ts';

/** How long an agent may take to say that a worker has ended which it was told to end, ms. */
const KILL_LIMIT_MS = 5000;

type Send = <Kind extends keyof CoordinatorMessages>(kind: Kind, body: CoordinatorMessages[Kind]) => void;

interface RemoteWorker {
  readonly id: string;
  /** Number of the message that asked for it. */
  readonly asked: number;
  readonly log: (line: string) => void;
  readonly end: (end: WorkerEnd) => void;
  pid: number | undefined;
}

export class AgentHost implements Host {
  readonly name: string;
  readonly address: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly devices: readonly HostDevice[];
  readonly slots: number | undefined;
  readonly files: HostFiles;
  readonly facts: AgentFacts;
  readonly #send: Send;
  readonly #workers = new Map<string, RemoteWorker>();
  #number = 0;
  #started = 0;
  #beatsUnheard = 0;
  #timesHeard = 0;
  #heardAt = performance.now();
  #gone: string | undefined;

  constructor(facts: AgentFacts, send: Send) {
    this.facts = facts;
    this.name = facts.node;
    this.address = facts.address;
    this.cores = facts.cores;
    this.memoryBytes = facts.memoryBytes;
    this.devices = facts.devices;
    this.slots = facts.slots;
    this.#send = send;
    this.files = new HostFiles(facts.node, (request) => send('files', request));
  }

  /** Why the host is not there any more; undefined while it is. */
  get gone(): string | undefined {
    return this.#gone;
  }

  startWorker({ rank, invitation, environment, log }: WorkerOrder): StartedWorker {
    const id = `${this.facts.session}.${this.#started++}`;
    let end!: (end: WorkerEnd) => void;
    const ended = new Promise<WorkerEnd>((resolve) => {
      end = resolve;
    });
    const number = this.#next();
    const worker: RemoteWorker = { id, asked: number, log, end, pid: undefined };
    if (this.#gone === undefined) {
      this.#workers.set(id, worker);
      this.#send('start', { number, id, rank, invitation: { ...invitation }, environment });
    } else end(lostWith(this.#gone));
    return {
      get pid() {
        return worker.pid;
      },
      ended,
      kill: () => this.#kill(worker),
    };
  }

  /** Tells the agent which workers are to run, and counts how often it has not been heard of since. */
  beat(): void {
    this.#send('beat', { number: this.#next(), workers: [...this.#workers.keys()] });
    if (++this.#beatsUnheard > BEATS_UNTIL_LOST) this.lose('its agent has fallen silent');
  }

  /** Grows with each sign of life. */
  get timesHeard(): number {
    return this.#timesHeard;
  }

  /** Since the last sign of life. */
  get heardAgoMs(): number {
    return Math.round(performance.now() - this.#heardAt);
  }

  heard(): void {
    this.#heardAt = performance.now();
    this.#beatsUnheard = 0;
    this.#timesHeard++;
  }

  /** Takes a heartbeat: a worker that was asked for and does not run has ended, though nobody could say so. */
  compare(heard: number, running: readonly { readonly id: string; readonly pid: number }[]): void {
    const pids = new Map(running.map(({ id, pid }) => [id, pid]));
    for (const worker of [...this.#workers.values()]) {
      worker.pid = pids.get(worker.id) ?? worker.pid;
      if (worker.asked <= heard && !pids.has(worker.id)) {
        this.ended(worker.id, { how: 'an unknown cause', exitCode: null, signal: null });
      }
    }
  }

  output(id: string, line: string): void {
    this.#workers.get(id)?.log(line);
  }

  ended(id: string, end: WorkerEnd): void {
    this.#workers.get(id)?.end(end);
    this.#workers.delete(id);
  }

  /** Takes the host for lost, with all that ran on it. */
  lose(reason: string): void {
    if (this.#gone !== undefined) return;
    this.#gone = reason;
    this.files.lose(reason);
    for (const id of [...this.#workers.keys()]) this.ended(id, lostWith(reason));
  }

  #kill(worker: RemoteWorker): void {
    if (!this.#workers.has(worker.id)) return;
    this.#send('kill', { number: this.#next(), id: worker.id });
    const end = () => this.ended(worker.id, lostWith('its agent did not say that it has ended'));
    setTimeout(end, KILL_LIMIT_MS).unref();
  }

  #next(): number {
    return ++this.#number;
  }
}

function lostWith(reason: string): WorkerEnd {
  return { how: `losing its host (${reason})`, exitCode: null, signal: 'SIGKILL' };
}
