/**
 * One agent a host: joins the coordinator, starts and ends workers as it says, passes on what they print, and ends with its
 * lifeline: the coordinator's word, its long silence, or the end of its standard input.
 */

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { CurveKeys, Invitation } from '@sluice/collectives';
import {
  connectorSecurity,
  connectTo,
  errorFromData,
  makeRuntimeDirectory,
  Outbox,
  receiveAll,
  removeRings,
  sweepRings,
} from '@sluice/collectives/control';
import { availableCores, availableMemory, type SluiceError } from '@sluice/core';
import { Dealer } from 'zeromq';
import { listGpus } from '../backends/gpus.ts';
import { hostDevices } from '../coordinator/devices.ts';
import {
  claimRuntimeDirectory,
  removeRuntimeDirectory,
  sweepRuntimeDirectories,
} from '../coordinator/runtimeDirectory.ts';
import type { Incarnation } from '../run/incarnation.ts';
import { addressTowards, parseEndpoint } from './address.ts';
import { AgentFiles } from './agentFiles.ts';
import { ownBuild } from './build.ts';
import { EXIT_CONFIGURATION, EXIT_FAILED, EXIT_STOPPED_EARLY } from './exitCode.ts';
import type { StartedWorker } from './host.ts';
import { releaseHostMemory, sweepHostMemory } from './hostMemory.ts';
import {
  type AgentFacts,
  type AgentMessages,
  BEAT_MS,
  BEATS_UNTIL_LOST,
  type CoordinatorMessages,
  decodeFromCoordinator,
  encodeFromAgent,
  MAX_FLEET_BYTES,
} from './protocol.ts';
import { startWorkerProcess } from './workerProcess.ts';

export interface AgentOptions {
  /** Where the coordinator listens, or will: `tcp://HOST:PORT`. */
  readonly join: string;
  readonly curve: CurveKeys;
  /** What this host is called; its own name when left out. */
  readonly node?: string | undefined;
  readonly nodeRank?: number | undefined;
  /** When left out, when this process began. */
  readonly incarnation?: Incarnation | undefined;
  /** Number by which other hosts reach this one; found out when left out. */
  readonly advertise?: string | undefined;
  /** Workers that this host takes; any number when left out. */
  readonly slots?: number | undefined;
  /** How long a coordinator may be away before the agent gives up, seconds. */
  readonly patienceSeconds: number;
  readonly log: (line: string) => void;
}

/** How long the last words may take to leave, ms. */
const LINGER_MS = 1000;

/** Refusals that no later try could change. */
const FINAL: Readonly<Partial<Record<SluiceError['code'], number>>> = {
  SLUICE_E_HOST_DIFFERS: EXIT_CONFIGURATION,
  SLUICE_E_PROTOCOL_VERSION: EXIT_CONFIGURATION,
  SLUICE_E_NODE_NAME_TAKEN: EXIT_CONFIGURATION,
  SLUICE_E_INCARNATION_OLD: EXIT_FAILED,
};

export class Agent {
  /** Resolves with the exit code. */
  readonly ended: Promise<number>;
  readonly #options: AgentOptions;
  readonly #session = randomUUID();
  readonly #workers = new Map<string, StartedWorker>();
  readonly #files = new AgentFiles((answer) => this.#send('files', answer));
  /** What could not be sent is asked for again by the coordinator, as far as it matters. */
  readonly #outbox = new Outbox<Buffer>((frame) => this.#socket!.send(frame), 'drop');
  /** Where workers of this host have their sockets for each other. */
  #directory: string | undefined;
  #socket: Dealer | undefined;
  #facts!: AgentFacts;
  #end!: (code: number) => void;
  #heartbeat: NodeJS.Timeout | undefined;
  #isIn = false;
  #beatsUnheard = 0;
  #heard = 0;
  #stopReason: string | undefined;
  #isEnding = false;
  #stoppedUnheard = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** Looks for the coordinator, and goes on doing so in the background. @throws SLUICE_E_TEMPORARY_DIRECTORY */
  async start(): Promise<void> {
    if (this.#isEnding) return;
    sweepHostMemory();
    sweepRuntimeDirectories();
    sweepRings();
    this.#directory = makeRuntimeDirectory();
    claimRuntimeDirectory(this.#directory);
    this.#facts = await this.#findFacts();
    if (this.#isEnding) return;
    this.#connect();
    this.#heartbeat = setInterval(() => this.#beat(), BEAT_MS);
    this.#send('join', this.#facts);
  }

  /** Connects to the coordinator. A socket by which nothing is heard is given up: one whose encryption was disturbed never recovers. */
  #connect(): void {
    if (this.#socket) {
      this.#socket.linger = 0;
      this.#socket.close();
    }
    const socket = new Dealer({
      ...connectorSecurity(this.#options.curve),
      // A connection made anew is the same agent to the coordinator.
      routingId: this.#session,
      maxMessageSize: MAX_FLEET_BYTES,
      // Nothing is kept for a coordinator that is not there.
      immediate: true,
      connectTimeout: 1000,
      reconnectInterval: 100,
      reconnectMaxInterval: 2000,
      tcpMaxRetransmitTimeout: 15_000,
      linger: LINGER_MS,
    });
    connectTo(socket, this.#options.join, isIPv6(this.#facts.address));
    this.#socket = socket;
    void receiveAll(socket, (frame) => this.#receive(frame));
  }

  /** Workers that run here now. */
  get workerCount(): number {
    return this.#workers.size;
  }

  /** Seconds since the coordinator was heard of, about; undefined while it never was. */
  get coordinatorHeardAgo(): number | undefined {
    return this.#isIn ? (this.#beatsUnheard * BEAT_MS) / 1000 : undefined;
  }

  /** Asks the coordinator to save and stop; alone, there is nothing to save. */
  requestStop(reason: string): void {
    if (this.#stopReason === undefined)
      this.#options.log(`asking the coordinator to save and stop: ${reason}`);
    this.#stopReason ??= reason;
    if (this.#isIn) this.#send('stop', { reason });
    else if (this.#workers.size === 0) {
      this.#stoppedUnheard = true;
      void this.finish(EXIT_STOPPED_EARLY, reason);
    }
  }

  /** Whether it ends because it was asked to while no coordinator could be told. */
  get stoppedUnheard(): boolean {
    return this.#stoppedUnheard;
  }

  /** Ends the workers and this agent. */
  async finish(code: number, reason: string): Promise<void> {
    if (this.#isEnding) return;
    this.#isEnding = true;
    clearInterval(this.#heartbeat);
    const workers = [...this.#workers.values()];
    for (const worker of workers) worker.kill();
    await Promise.all(workers.map(({ ended }) => ended));
    if (this.#isIn) this.#send('left', { reason });
    await Promise.race([this.#outbox.emptied(), delay(LINGER_MS)]);
    this.#socket?.close();
    releaseHostMemory();
    if (this.#directory !== undefined) removeRuntimeDirectory(this.#directory);
    this.#options.log(`ending with exit code ${code}: ${reason}`);
    this.#end(code);
  }

  /** The address needs the coordinator's name to resolve, which a scheduler may see to only later. */
  async #findFacts(): Promise<AgentFacts> {
    const { join, advertise, patienceSeconds, node = hostname(), nodeRank, slots } = this.#options;
    const { host } = parseEndpoint(join);
    let address = advertise;
    for (let tries = 0; address === undefined; tries++) {
      try {
        address = await addressTowards(host);
      } catch (error) {
        if (tries > patienceSeconds) throw error;
        if (tries % 10 === 0) this.#options.log(`${host} does not resolve yet (${(error as Error).message})`);
        await delay(1000);
      }
    }
    return {
      ...{ node, address, session: this.#session, pid: process.pid, machine: machineId(), build: ownBuild() },
      incarnation: this.#options.incarnation ?? [0, Math.floor(performance.timeOrigin)],
      ...(nodeRank !== undefined && { nodeRank }),
      ...(slots !== undefined && { slots }),
      cores: availableCores().count,
      memoryBytes: availableMemory(),
      devices: hostDevices(process.env.CUDA_VISIBLE_DEVICES, listGpus()),
    };
  }

  #beat(): void {
    this.#beatsUnheard++;
    if (this.#beatsUnheard * BEAT_MS > this.#options.patienceSeconds * 1000) {
      void this.finish(
        EXIT_STOPPED_EARLY,
        `nothing was heard of the coordinator at ${this.#options.join} for ${this.#options.patienceSeconds} s`,
      );
      return;
    }
    if (this.#beatsUnheard % (BEATS_UNTIL_LOST + 1) === 0) this.#connect();
    if (this.#isIn && this.#beatsUnheard > BEATS_UNTIL_LOST) {
      this.#options.log(`nothing is heard of the coordinator at ${this.#options.join}: looking for it`);
      this.#leaveWorkers();
    }
    if (this.#isIn) this.#sayWhatRuns();
    else if (this.#outbox.isEmpty) this.#send('join', this.#facts);
  }

  #sayWhatRuns(): void {
    const workers = [...this.#workers].map(([id, { pid }]) => ({ id, pid: pid ?? 0 }));
    this.#send('beat', { heard: this.#heard, workers });
  }

  #receive(frame: Buffer | undefined): void {
    if (this.#isEnding) return;
    let message: ReturnType<typeof decodeFromCoordinator>;
    try {
      message = frame && decodeFromCoordinator(frame);
    } catch (error) {
      this.#refused(error as SluiceError);
      return;
    }
    if (message === undefined) return;
    this.#beatsUnheard = 0;
    switch (message.kind) {
      case 'welcome':
        if (!this.#isIn) this.#options.log(`joined ${this.#options.join} as ${this.#facts.node}`);
        this.#isIn = true;
        if (this.#stopReason !== undefined) this.#send('stop', { reason: this.#stopReason });
        break;
      case 'unknown':
        this.#leaveWorkers();
        this.#send('join', this.#facts);
        break;
      case 'refused':
        this.#refused(errorFromData(message.body.error));
        break;
      case 'beat':
        this.#heard = message.body.number;
        this.#endAllBut(message.body.workers);
        this.#sayWhatRuns();
        break;
      case 'start':
        this.#heard = message.body.number;
        this.#startWorker(message.body);
        break;
      case 'kill':
        this.#heard = message.body.number;
        this.#workers.get(message.body.id)?.kill();
        break;
      case 'files':
        this.#files.request(message.body);
        break;
      case 'end':
        void this.finish(message.body.code, message.body.reason);
        break;
    }
  }

  #startWorker({ id, rank, invitation, environment }: CoordinatorMessages['start']): void {
    if (!this.#isIn || this.#workers.has(id)) return;
    const invited = { ...(invitation as unknown as Invitation), directory: this.#directory! };
    const worker = startWorkerProcess({
      ...{ rank, invitation: invited, environment },
      log: (line) => this.#send('output', { id, line: line.slice(0, MAX_LINE) }),
    });
    this.#workers.set(id, worker);
    void worker.ended.then(({ how, exitCode, signal }) => {
      this.#workers.delete(id);
      removeRings(invited.token, [rank]);
      this.#send('ended', { id, how, exitCode, signal });
    });
  }

  /** Workers that the coordinator does not know of belong to a past of the run. */
  #endAllBut(ids: readonly string[]): void {
    for (const [id, worker] of this.#workers) if (!ids.includes(id)) worker.kill();
  }

  /** Without their coordinator, workers can neither go on nor save. */
  #leaveWorkers(): void {
    this.#isIn = false;
    this.#endAllBut([]);
  }

  #refused(error: SluiceError): void {
    this.#options.log(`refused by the coordinator: ${error.message}`);
    const code = FINAL[error.code];
    if (code !== undefined) void this.finish(code, error.message);
  }

  #send<Kind extends keyof AgentMessages>(kind: Kind, body: AgentMessages[Kind]): void {
    if (this.#socket === undefined || this.#socket.closed) return;
    this.#outbox.push(encodeFromAgent(kind, body));
  }
}

/** Characters of a line of output that are passed on. */
const MAX_LINE = 16_000;

/** Tells machines apart that may have the same name. */
function machineId(): string {
  try {
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()}:${hostname()}`;
  } catch {
    return hostname();
  }
}
