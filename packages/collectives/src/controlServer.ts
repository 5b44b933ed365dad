/** The coordinator's end of the control plane: rendezvous, calls to all workers, heartbeats, losses. */

import { randomBytes } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { invariant, SluiceError } from '@sluice/core';
import { Context, Router } from 'zeromq';
import { awakeTimeout, isSuspended } from './awakeTime.ts';
import {
  type CoordinatorMessages,
  DEFAULT_LIMITS_MS,
  decodeFromWorker,
  encodeMessage,
  errorFromData,
  HEARTBEAT_MS,
  MAX_CONTROL_BYTES,
  type Message,
  type WaitKind,
  type WorkerMessages,
} from './controlProtocol.ts';
import type { Invitation, Protection } from './invitation.ts';
import { Outbox } from './outbox.ts';
import { PendingCalls } from './pendingCalls.ts';
import { makeRuntimeDirectory } from './runtimeDirectory.ts';
import { Authenticator, type CurveKeys, listenerSecurity } from './security.ts';
import { removeRings } from './sharedRing.ts';
import { listenAt, receiveAll } from './sockets.ts';
import type { WorkerState } from './workerState.ts';
import type { TransportKind } from './zeromqTransport.ts';

export interface ListenOptions {
  /** Where workers come: an ipc path made for this run by default; `tcp://127.0.0.1:0` picks a free port. */
  readonly endpoint?: string;
  readonly worldSize: number;
  /** How workers reach each other. */
  readonly transport?: TransportKind;
  /** Ranks of each host (tcp): those of one reach each other without the network. */
  readonly hosts?: readonly (readonly number[])[];
  /** Limits by kind of wait, ms. */
  readonly limits?: Partial<Record<WaitKind, number>>;
  /** A worker not heard of for so long is lost, ms of this process's time awake; but not while it is suspended. */
  readonly heartbeatSilenceMs?: number;
  /** The cluster's keys: encrypts and authenticates all connections of the run that leave the machine. */
  readonly curve?: CurveKeys;
  /** Of what workers send each other, where there are keys; encrypted when left out. */
  readonly protection?: Protection;
}

export interface WorkerInfo {
  readonly rank: number;
  readonly host: string;
  readonly pid: number;
  readonly endpoint: string;
  /** Where workers of its host reach it, if not there. */
  readonly near?: string | undefined;
}

export interface CallOptions {
  readonly kind?: WaitKind;
  /** Overrides the limit of the kind, ms. */
  readonly limitMs?: number;
}

/** How long is waited for what other workers do not reach, once one has said so, ms. */
const APART_GATHER_MS = 1500;

interface Member {
  readonly info: WorkerInfo;
  readonly identity: Buffer;
  /** Heartbeats of the coordinator since the worker was last heard of. */
  beatsUnheard: number;
  activity: string;
  /** When it was last heard of, ms of `performance.now()`. */
  heardAt: number;
  /** When it began to say so, ms of `performance.now()`. */
  activitySince: number;
  ready: boolean;
  gone: boolean;
}

export class ControlServer {
  /** Where workers reach the coordinator. */
  readonly endpoint: string;
  /** Secret of the run, which workers must show. */
  readonly token: string;
  readonly worldSize: number;
  /** Where workers of this machine have their sockets. */
  readonly directory: string;
  /** Resolves with the first loss of a worker; never rejects. */
  readonly lost: Promise<SluiceError>;
  readonly #transport: TransportKind;
  readonly #hosts: readonly (readonly number[])[];
  readonly #limits: Record<WaitKind, number>;
  readonly #silenceMs: number;
  readonly #router: Router;
  readonly #authenticator: Authenticator | undefined;
  readonly #curve: CurveKeys | undefined;
  readonly #protection: Protection;
  readonly #members = new Map<number, Member>();
  readonly #calls: PendingCalls;
  readonly #lostErrors = new Map<number, SluiceError>();
  /** A peer that takes no message is left to its heartbeat. */
  readonly #outbox = new Outbox<[Buffer, Buffer]>((frames) => this.#router.send(frames), 'drop');
  readonly #heartbeat: NodeJS.Timeout;
  #stopping = false;
  #closed: SluiceError | undefined;
  #reportLoss!: (error: SluiceError) => void;
  #onMembership: () => void = () => {};
  /** Pairs of workers, the second of which the first does not reach. */
  readonly #apart: [number, number][] = [];
  /** Why workers cannot come together. */
  #apartError: SluiceError | undefined;
  /** What workers tell of themselves, while somebody asks. */
  #described: { readonly states: Map<number, WorkerState>; readonly onState: () => void } | undefined;

  /** Starts to listen. @throws SLUICE_E_PORT_TAKEN, SLUICE_E_TEMPORARY_DIRECTORY */
  static async listen(options: ListenOptions): Promise<ControlServer> {
    const { curve } = options;
    const directory = makeRuntimeDirectory();
    const context = new Context();
    const authenticator = curve && (await Authenticator.start(context, curve));
    const router = new Router({
      context,
      ...listenerSecurity(curve),
      maxMessageSize: MAX_CONTROL_BYTES,
      linger: 1000,
      sendTimeout: 5000,
    });
    let endpoint: string;
    try {
      endpoint = await listenAt(router, options.endpoint ?? `ipc://${directory}/coordinator`);
    } catch (error) {
      router.close();
      authenticator?.close();
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
    return new ControlServer(options, router, endpoint, directory, authenticator);
  }

  private constructor(
    options: ListenOptions,
    router: Router,
    endpoint: string,
    directory: string,
    authenticator: Authenticator | undefined,
  ) {
    this.endpoint = endpoint;
    this.token = randomBytes(16).toString('hex');
    this.worldSize = options.worldSize;
    this.lost = new Promise((resolve) => {
      this.#reportLoss = resolve;
    });
    this.#transport = options.transport ?? 'ipc';
    this.#hosts = options.hosts ?? [];
    this.#limits = { ...DEFAULT_LIMITS_MS, ...options.limits };
    this.#silenceMs = options.heartbeatSilenceMs ?? 15_000;
    this.#router = router;
    this.directory = directory;
    this.#authenticator = authenticator;
    this.#curve = options.curve;
    this.#protection = options.protection ?? 'encrypted';
    this.#calls = new PendingCalls(this.#ranks(), (rank) => this.activity(rank));
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
    void receiveAll(router, (identity, frame) => {
      if (identity !== undefined && frame !== undefined) this.#receive(identity, frame);
    });
  }

  /** What makes a process that this one starts the worker of `rank`. */
  invitation(rank: number): Invitation {
    const neighbours = this.#neighbours(rank);
    return {
      coordinator: this.endpoint,
      rank,
      token: this.token,
      transport: this.#transport,
      directory: this.directory,
      parentPid: process.pid,
      ...(neighbours && { neighbours }),
      ...(neighbours && this.#hosts.length > 1 && { hosts: this.#hosts }),
      ...(this.#curve && { curve: this.#curve, protection: this.#protection }),
    };
  }

  /**
   * Resolves when all workers are there and have been told of each other.
   * @throws SLUICE_E_WORKER_TIMEOUT naming the ranks that did not come; SLUICE_E_HOSTS_APART with the pairs that do not reach
   *   each other; SLUICE_E_TEMPORARY_DIRECTORY when their sockets are removed meanwhile; SLUICE_E_WORKER_LOST, also when `close` is called
   */
  ready(limitMs = this.#limits.start): Promise<readonly WorkerInfo[]> {
    return new Promise((resolve, reject) => {
      const endWait = awakeTimeout(limitMs, () => {
        const missing = this.#ranks().filter((rank) => !this.#members.get(rank)?.ready);
        reject(
          new SluiceError(
            'SLUICE_E_WORKER_TIMEOUT',
            `Waited ${limitMs / 1000} s for the workers to start; ranks ${missing.join(', ')} of ${this.worldSize} did not come.`,
            { details: { missing } },
          ),
        );
      });
      this.#onMembership = () => {
        const error = this.#ending() ?? this.#apartError;
        if (error === undefined && !this.#allReady()) return;
        endWait();
        if (error !== undefined) reject(error);
        else resolve(this.#ranks().map((rank) => this.#members.get(rank)!.info));
      };
      this.#onMembership();
    });
  }

  /**
   * Calls `method` on all workers at once.
   * @returns their answers, in order of rank
   * @throws the first worker's error, with `failedRanks` among its details unless all failed so; SLUICE_E_WORKER_TIMEOUT naming rank,
   *   method and what it was doing; SLUICE_E_WORKER_LOST
   */
  callAll<R>(method: string, request: unknown, options: CallOptions = {}): Promise<R[]> {
    invariant(this.#allReady(), `${method} is called before all workers are ready`);
    const ending = this.#ending();
    if (ending !== undefined) return Promise.reject(ending);
    const kind = options.kind ?? 'step';
    const limitMs = options.limitMs ?? this.#limits[kind];
    if (method === 'stop') this.#stopping = true;
    const { id, answers } = this.#calls.open(method, { kind, limitMs });
    for (const rank of this.#ranks()) {
      try {
        this.#send(rank, 'call', { id, method, request });
      } catch (error) {
        // A request that cannot be put into a message.
        this.#calls.fail(id, rank, error as Error);
      }
    }
    return answers as Promise<R[]>;
  }

  /** Says that a worker is gone: calls that wait for it fail at once, and so do the other workers' collectives. */
  markLost(rank: number, reason: string): void {
    const member = this.#members.get(rank);
    const alreadyKnown = this.#lostErrors.has(rank) || member?.gone === true;
    if (this.#closed !== undefined || alreadyKnown) return;
    const doing = member === undefined ? 'it had not reported yet' : `it was last: ${member.activity}`;
    const error = new SluiceError(
      'SLUICE_E_WORKER_LOST',
      `Worker of rank ${rank} is lost: ${reason} (${doing}).`,
      { details: { rank, reason, activity: member?.activity } },
    );
    this.#lostErrors.set(rank, error);
    if (member !== undefined) member.gone = true;
    this.#calls.failOf(rank, error);
    for (const other of this.#members.values()) {
      if (other.gone) continue;
      this.#send(other.info.rank, 'lost', {
        rank,
        error: { code: error.code, message: error.message, details: { ...error.details } },
      });
    }
    this.#onMembership();
    this.#reportLoss(error);
  }

  /** What the worker said last that it was doing. */
  activity(rank: number): string {
    return this.#members.get(rank)?.activity ?? 'not started';
  }

  /** For how long the worker has said just that, ms. */
  activityAgeMs(rank: number): number {
    const since = this.#members.get(rank)?.activitySince;
    return since === undefined ? 0 : performance.now() - since;
  }

  /** For how long nothing has been heard of the worker, ms. */
  silenceMs(rank: number): number {
    const heardAt = this.#members.get(rank)?.heardAt;
    return heardAt === undefined ? 0 : performance.now() - heardAt;
  }

  /**
   * Asks all workers what they are doing.
   * @param limitMs how long is waited for those who do not answer
   * @returns what those told who did, by rank
   */
  async describe(limitMs: number): Promise<ReadonlyMap<number, WorkerState>> {
    const asked = [...this.#members.values()].filter(({ gone }) => !gone);
    const states = new Map<number, WorkerState>();
    await new Promise<void>((resolve) => {
      const endWait = awakeTimeout(limitMs, resolve);
      const onState = () => {
        if (states.size < asked.length) return;
        endWait();
        resolve();
      };
      this.#described = { states, onState };
      for (const { info } of asked) this.#send(info.rank, 'describe', {});
      onState();
    });
    return states;
  }

  /** Workers that have not answered the calls which are under way. */
  get waitedFor(): readonly number[] {
    return this.#calls.waitedFor;
  }

  /** How long a call of a kind may take, ms. */
  limitMs(kind: WaitKind): number {
    return this.#limits[kind];
  }

  async close(): Promise<void> {
    if (this.#closed !== undefined) return;
    this.#closed = new SluiceError('SLUICE_E_WORKER_LOST', 'The coordinator closed its connections.');
    clearInterval(this.#heartbeat);
    this.#calls.failAll(this.#closed);
    this.#onMembership();
    await this.#outbox.emptied();
    this.#router.close();
    this.#authenticator?.close();
    removeRings(this.token, this.#ranks());
    rmSync(this.directory, { recursive: true, force: true });
  }

  #receive(identity: Buffer, frame: Buffer): void {
    let message: Message<WorkerMessages> | undefined;
    try {
      message = decodeFromWorker(frame);
    } catch (error) {
      this.#refuse(identity, error as SluiceError);
      return;
    }
    if (message === undefined) return;
    if (message.kind === 'hello') {
      this.#welcome(identity, message.body);
      return;
    }
    const member = [...this.#members.values()].find((m) => m.identity.equals(identity));
    if (member === undefined || member.gone) return;
    member.beatsUnheard = 0;
    member.heardAt = performance.now();
    switch (message.kind) {
      case 'ready':
        member.ready = true;
        this.#onMembership();
        break;
      case 'apart':
        this.#noteApart(member.info.rank, message.body.ranks);
        break;
      case 'beat':
        this.#noteActivity(member, message.body.activity.slice(0, 500));
        break;
      case 'state':
        this.#described?.states.set(member.info.rank, message.body.state);
        this.#described?.onState();
        break;
      case 'result':
        this.#calls.answer(message.body.id, member.info.rank, message.body.value);
        break;
      case 'failure':
        this.#calls.fail(message.body.id, member.info.rank, errorFromData(message.body.error));
        break;
      case 'goodbye':
        if (!this.#stopping) this.markLost(member.info.rank, `it left: ${message.body.reason}`);
        member.gone = true;
        break;
    }
  }

  /** A worker without the run's secret gets no answer: a stranger learns nothing. */
  #welcome(identity: Buffer, hello: WorkerMessages['hello']): void {
    const { token, rank, host, pid, endpoint, near } = hello;
    if (token !== this.token || !this.#ranks().includes(rank)) return;
    if (this.#members.has(rank)) {
      this.#refuse(
        identity,
        new SluiceError('SLUICE_E_WORKER_FAILED', `Rank ${rank} is already taken by another process.`),
      );
      return;
    }
    this.#members.set(rank, {
      info: { rank, host, pid, endpoint, near },
      identity,
      beatsUnheard: 0,
      activity: 'starting',
      activitySince: performance.now(),
      heardAt: performance.now(),
      ready: false,
      gone: false,
    });
    if (this.#members.size === this.worldSize) {
      for (const r of this.#ranks()) this.#send(r, 'world', { endpoints: this.#endpointsFor(r) });
    }
  }

  /** Ranks of the host of `rank`, where they reach each other by another way than those of all hosts do. */
  #neighbours(rank: number): readonly number[] | undefined {
    return this.#transport === 'tcp' ? this.#hosts.find((ranks) => ranks.includes(rank)) : undefined;
  }

  #endpointsFor(rank: number): string[] {
    const neighbours = this.#neighbours(rank) ?? [];
    return this.#ranks().map((peer) => {
      const { endpoint, near } = this.#members.get(peer)!.info;
      return neighbours.includes(peer) ? (near ?? endpoint) : endpoint;
    });
  }

  /** Others will say the like in a moment: what they have in common is where the fault is. */
  #noteApart(rank: number, peers: readonly number[]): void {
    this.#apart.push(...peers.map((peer): [number, number] => [rank, peer]));
    if (this.#apart.length > peers.length) return;
    awakeTimeout(APART_GATHER_MS, () => {
      const pairs = this.#apart;
      this.#apartError = new SluiceError(
        'SLUICE_E_HOSTS_APART',
        `No connection came about ${pairs.map(([from, to]) => `from rank ${from} to rank ${to}`).join(', ')}.`,
        { details: { pairs } },
      );
      this.#onMembership();
    });
  }

  #noteActivity(member: Member, activity: string): void {
    if (member.activity === activity) return;
    member.activity = activity;
    member.activitySince = performance.now();
  }

  #beat(): void {
    this.#refuseLostSockets();
    for (const member of this.#members.values()) {
      if (member.gone) continue;
      this.#send(member.info.rank, 'beat', {});
      const silentMs = HEARTBEAT_MS * member.beatsUnheard++;
      if (silentMs <= this.#silenceMs) continue;
      const { rank, host, pid } = member.info;
      if (host === hostname() && isSuspended(pid)) member.beatsUnheard = 0;
      else this.markLost(rank, `no heartbeat for ${Math.round(silentMs / 1000)} s`);
    }
  }

  /** A socket whose path is gone is never found, however long workers look for it. */
  #refuseLostSockets(): void {
    if (this.#transport !== 'ipc' || this.#allReady() || existsSync(this.directory)) return;
    this.#apartError ??= new SluiceError(
      'SLUICE_E_TEMPORARY_DIRECTORY',
      `The directory of the sockets, ${this.directory}, was removed before the workers had come together.`,
      { details: { directory: this.directory } },
    );
    this.#onMembership();
  }

  #refuse(identity: Buffer, error: SluiceError): void {
    this.#outbox.push([
      identity,
      encodeMessage<CoordinatorMessages, 'refused'>('refused', {
        error: { code: error.code, message: error.message, details: { ...error.details } },
      }),
    ]);
  }

  #send<K extends keyof CoordinatorMessages>(rank: number, kind: K, body: CoordinatorMessages[K]): void {
    const { identity } = this.#members.get(rank)!;
    this.#outbox.push([identity, encodeMessage<CoordinatorMessages, K>(kind, body)]);
  }

  /** Why the workers can answer no more; undefined while they can. */
  #ending(): SluiceError | undefined {
    return this.#lostErrors.values().next().value ?? this.#closed;
  }

  #allReady(): boolean {
    return this.#ranks().every((rank) => this.#members.get(rank)?.ready);
  }

  #ranks(): number[] {
    return Array.from({ length: this.worldSize }, (_, rank) => rank);
  }
}
