/** The worker processes of a run, on one host or many: started, watched, spoken to, and ended whatever happens. */

import { setTimeout as delay } from 'node:timers/promises';
import { ControlServer, sweepRings, type WaitKind, type WorkerState } from '@sluice/collectives';
import { SluiceError } from '@sluice/core';
import type { FleetNetwork } from '../fleet/fleet.ts';
import type { Host, StartedWorker, WorkerEnd } from '../fleet/host.ts';
import type { Placement } from '../fleet/placement.ts';
import { planDevices } from './devices.ts';
import { planThreads } from './environment.ts';
import type { TeamView, WorkerReport } from './runBoard.ts';
import {
  claimRuntimeDirectory,
  removeRuntimeDirectory,
  sweepRuntimeDirectories,
} from './runtimeDirectory.ts';
import { type Stall, stallAfterMs, stallOf, type Waiting, watchStall } from './stall.ts';
import { TeamOutput } from './teamOutput.ts';
import type { Answer, MethodName, Request, Workers } from './workers.ts';

export interface TeamOptions {
  readonly placements: readonly Placement[];
  /** Configured threads of each worker; 0 shares a host's cores out. */
  readonly threads: number;
  /** Whether each worker computes on a GPU of its own. */
  readonly onDevices: boolean;
  /** Receives the workers' output line by line, with the rank in front. */
  readonly log: (line: string) => void;
  /** How workers reach this process and each other where they are on several machines. */
  readonly network?: FleetNetwork | undefined;
  /** Folder for what the workers print, a file each; none is written when left out. */
  readonly logs?: string;
  /** Variables of the environment that all workers get. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Limits by kind of wait, ms, where not the usual ones. */
  readonly limits?: Partial<Record<WaitKind, number>>;
  /** Is told when a call takes suspiciously long. */
  readonly onStall?: (stall: Stall) => void;
  /** Is given the workers as they are started, to be told of. */
  readonly watch?: (team: TeamView) => void;
}

/** Characters of what a worker is doing that are told to whoever asks: thousands of workers fit into one message. */
const MOST_TOLD = 160;
/** How long is waited for what workers tell of themselves: their communication threads have little else to do. */
const DESCRIBE_MS = 2_000;
/** Workers that a message names one by one. */
const MOST_NAMED = 4;
/** How often in a start the workers' states are written down. */
const MOST_STATES = 20;
/** How long a worker may take to end after it answered `stop`. */
const ORDERLY_END_MS = 10_000;
/** How long after a failed call a process may take to be seen dead, before the failure is told as it was answered. */
const DEATH_NOTICE_MS = 1_000;
/** Failures of a call that are usually the shadow of another worker's death. */
const CONSEQUENCES = new Set([
  'SLUICE_E_WORKER_LOST',
  'SLUICE_E_COLLECTIVE_TIMEOUT',
  'SLUICE_E_NCCL',
  'SLUICE_E_WORKER_TIMEOUT',
]);

/**
 * Starts workers and waits until all know each other.
 * @throws SLUICE_E_WORKER_DIED when one ends early; what the control server throws when they do not come up in time
 */
export async function startTeam(options: TeamOptions): Promise<Workers> {
  sweepRuntimeDirectories();
  sweepRings();
  const { network, limits } = options;
  const hosts = options.placements.map(({ ranks }) => ranks);
  const server = await ControlServer.listen({
    worldSize: hosts.flat().length,
    hosts,
    // Workers of one host have no need of the network, though the coordinator may be elsewhere.
    transport: hosts.length > 1 ? 'tcp' : 'ipc',
    ...(limits && { limits }),
    ...(network && {
      ...{ endpoint: `tcp://${network.address}:0`, curve: network.curve },
      protection: network.protection,
    }),
  });
  const workers = new Team(server, options);
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
const TASKS: Readonly<Record<Exclude<MethodName, 'step'>, string>> = {
  initialize: 'preparing the model',
  evaluate: 'validation',
  diagnose: 'diagnostics',
  sample: 'writing samples',
  examine: 'examining the weights',
  save: 'saving a checkpoint',
  stage: 'staging a checkpoint',
  write: 'saving a checkpoint',
  written: 'saving a checkpoint',
  copy: 'copying to memory',
  snapshot: 'keeping a snapshot',
  restore: 'going back to a snapshot',
  measure: 'measuring',
  stop: 'stopping',
};

function taskOf(method: MethodName, request: Request<MethodName>): string {
  return method === 'step' ? `step ${(request as Request<'step'>).step}` : TASKS[method];
}

class Team implements Workers, TeamView {
  readonly count: number;
  readonly id: string | undefined;
  readonly #server: ControlServer;
  readonly #options: TeamOptions;
  readonly #members: Member[] = [];
  readonly #output: TeamOutput;
  #firstStepTaken = false;
  /** How often the workers' states were written down. */
  #statesKept = 0;
  /** How long the last call of each kind took. */
  readonly #usualMs = new Map<WaitKind, number>();
  /** What all the workers are carrying out. */
  #task = 'starting up';
  #ending = false;
  #death: SluiceError | undefined;

  constructor(server: ControlServer, options: TeamOptions) {
    this.count = server.worldSize;
    this.id = options.network && server.token.slice(0, 8);
    this.#server = server;
    this.#options = options;
    this.#output = new TeamOutput({ count: this.count, tell: options.log, directory: options.logs });
  }

  start(): void {
    // However this process exits, its workers and their sockets go with it.
    process.once('exit', this.#abandon);
    claimRuntimeDirectory(this.#server.directory);
    for (const placement of this.#options.placements) this.#startOn(placement);
    this.#options.watch?.(this);
  }

  get task(): string {
    return this.#task;
  }

  placeOf(rank: number): { name: string; host: string } {
    const member = this.#members.find((one) => one.rank === rank);
    return { name: member?.name ?? `worker ${rank}`, host: member?.host.name ?? 'unknown' };
  }

  report(): WorkerReport[] {
    return this.#members
      .filter(({ hasEnded }) => !hasEnded)
      .map(({ rank, host, worker }) => ({
        ...{
          rank,
          host: host.name,
          pid: worker.pid ?? null,
          doing: this.#server.activity(rank).slice(0, MOST_TOLD),
        },
      }));
  }

  #startOn({ host, ranks }: Placement): void {
    const { threads, onDevices, environment } = this.#options;
    const plan = planThreads(threads, ranks.length, host.cores);
    const devices = onDevices ? planDevices(host.devices, ranks.length) : [];
    for (const [index, rank] of ranks.entries()) {
      const { parentPid: _, ...invitation } = this.#server.invitation(rank);
      const name = workerName(host, rank);
      const output = this.#output.open(rank, name, `worker ${rank} of ${this.count}, on ${host.name}`);
      const worker = host.startWorker({
        rank,
        invitation: { ...invitation, ...(host.address !== undefined && { host: host.address }) },
        environment: { ...environment, ...plan.environment, ...devices[index], ...this.#places(rank, index) },
        log: output.line,
      });
      const member: Member = { rank, name, host, worker, hasEnded: false };
      this.#members.push(member);
      void worker.ended.then((end) => {
        member.hasEnded = true;
        this.#noteDeath(member, end);
        output.ended(`${end.how} (process ${worker.pid ?? 'not started'})`, this.#ending);
      });
    }
  }

  /** Under the names that torchrun gives them, for tools that look for those. */
  #places(rank: number, localRank: number): Record<string, string> {
    return { RANK: String(rank), LOCAL_RANK: String(localRank), WORLD_SIZE: String(this.count) };
  }

  async ready(): Promise<void> {
    await this.#explainingDeath(this.#server.ready());
  }

  async call<Method extends MethodName>(method: Method, request: Request<Method>): Promise<Answer<Method>[]> {
    const kind = this.#waitKind(method);
    this.#task = taskOf(method, request);
    const answers = await this.#explainingDeath(
      this.#watchingStall(kind, this.#server.callAll<Answer<Method>>(method, request, { kind })),
    );
    if (method === 'step') this.#firstStepTaken = true;
    this.#task = 'waiting for its next task';
    return answers;
  }

  async #watchingStall<T>(kind: WaitKind, call: Promise<T>): Promise<T> {
    const begun = performance.now();
    let [isTold, isOver] = [false, false];
    const unwatch = watchStall(
      stallAfterMs(this.#server.limitMs(kind), this.#usualMs.get(kind)),
      async (seconds) => {
        const told = await this.#server.describe(DESCRIBE_MS);
        if (isOver) return;
        isTold = true;
        const stall = stallOf(this.#task, seconds, this.#waitedFor());
        this.#options.onStall?.({ ...stall, states: this.#keepStates(stall, told) });
      },
    );
    try {
      const answers = await call;
      const tookMs = performance.now() - begun;
      this.#usualMs.set(kind, tookMs);
      if (isTold) this.#options.log(`${this.#task} is done after all, after ${Math.round(tookMs / 1000)} s`);
      return answers;
    } finally {
      isOver = true;
      unwatch();
    }
  }

  #waitedFor(): Waiting[] {
    const waiting = new Set(this.#server.waitedFor);
    return this.#members.filter(({ rank }) => waiting.has(rank)).map((member) => this.#seenOf(member));
  }

  /** What is known of a worker by its heartbeats. */
  #seenOf({ rank, name, host, worker: { pid } }: Member): Waiting {
    return {
      ...{ rank, name, host: host.name, pid, doing: this.#server.activity(rank) },
      unchangedMs: this.#server.activityAgeMs(rank),
      silentMs: this.#server.silenceMs(rank),
    };
  }

  /** For the post-mortem: what each worker has told of itself, or that it has told nothing. */
  #keepStates({ task, seconds }: Stall, told: ReadonlyMap<number, WorkerState>): string | undefined {
    if (this.#statesKept === MOST_STATES) return undefined;
    const time = new Date().toISOString();
    const waiting = new Set(this.#server.waitedFor);
    const states = this.#members.map((member): [number, object] => {
      const { rank } = member;
      const state = told.get(rank) ?? null;
      return [rank, { time, task, seconds, ...this.#seenOf(member), hasAnswered: !waiting.has(rank), state }];
    });
    return this.#output.keepStates(`stall-${++this.#statesKept}`, new Map(states));
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
    this.#output.close();
    process.off('exit', this.#abandon);
    await this.#server.close();
  }

  readonly #abandon = (): void => {
    this.#killAtOnce();
    this.#output.close();
    removeRuntimeDirectory(this.#server.directory);
  };

  #killAtOnce(): void {
    for (const { worker } of this.#members) worker.kill();
  }

  async #allEnded(): Promise<void> {
    await Promise.all(this.#members.map(({ worker }) => worker.ended));
  }

  #waitKind(method: MethodName): WaitKind {
    switch (method) {
      case 'initialize':
      case 'restore':
        return 'start';
      case 'step':
        return this.#firstStepTaken ? 'step' : 'firstStep';
      case 'evaluate':
      case 'diagnose':
      case 'sample':
      case 'measure':
        return 'evaluation';
      case 'examine':
      case 'stage':
      case 'write':
      case 'written':
      case 'copy':
      case 'snapshot':
        return 'save';
      case 'save':
      case 'stop':
        return method;
    }
  }

  #noteDeath({ rank, name, host, worker: { pid } }: Member, { how, exitCode, signal }: WorkerEnd): void {
    if (this.#ending || this.#death) return;
    this.#output.noteFailure(name);
    // The task is certain; what it last said of itself came with a heartbeat, and may be a moment old.
    const said = this.#server.activity(rank);
    this.#death = new SluiceError(
      'SLUICE_E_WORKER_DIED',
      `Worker ${rank} (process ${pid ?? 'not started'}${placeInWords(host)}) ended by ${how} during: ${this.#task} (its last heartbeat: ${said}).`,
      { details: { rank, host: host.name, pid, exitCode, signal, task: this.#task, said } },
    );
    this.#server.markLost(rank, how);
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
      throw this.#death ?? this.#withHosts(error);
    }
  }

  /** A fault between two workers is one between their hosts, which people can look after. */
  #withHosts(error: unknown): unknown {
    if (!(error instanceof SluiceError)) return error;
    const { pairs, rank, from } = error.details as {
      pairs?: [number, number][];
      rank?: number;
      from?: number;
    };
    if (error.code === 'SLUICE_E_HOSTS_APART' && pairs) return hostsApart(error, this.#hostPairs(pairs));
    if (rank === undefined || from === undefined) return this.#withWorkers(error);
    const message = `${inWords(this.#hostPairs([[from, rank]]))} have lost each other. ${error.message}`;
    return new SluiceError(error.code, message, { details: error.details, cause: error });
  }

  /** An error that some workers have and others have not is told with their places: it may be those that somebody has to look after. */
  #withWorkers(error: SluiceError): SluiceError {
    const { failedRanks } = error.details as { failedRanks?: readonly number[] };
    if (failedRanks === undefined || CONSEQUENCES.has(error.code)) return error;
    const failed = this.#members.filter(({ rank }) => failedRanks.includes(rank));
    const hosts = [...new Set(failed.map(({ host }) => host.name))];
    const isNamed = error.message.startsWith(`Rank ${failedRanks[0]} `);
    if (isNamed && failed.every(({ host }) => host.address === undefined)) return error;
    const places = failed.slice(0, MOST_NAMED).map(({ rank, host }) => `worker ${rank}${placeInWords(host)}`);
    if (failed.length > MOST_NAMED) places.push(`${failed.length - MOST_NAMED} more`);
    return new SluiceError(error.code, `${places.join(', ').replace('w', 'W')}: ${error.message}`, {
      details: { ...error.details, hosts },
      cause: error,
    });
  }

  /** The hosts of pairs of ranks, each pair once. */
  #hostPairs(pairs: readonly (readonly [number, number])[]): [string, string][] {
    const named = pairs.map((pair) => pair.map((rank) => this.placeOf(rank).host).sort() as [string, string]);
    return [...new Map(named.map((pair) => [pair.join(' '), pair])).values()];
  }
}

function hostsApart(cause: SluiceError, pairs: readonly [string, string][]): SluiceError {
  return new SluiceError(
    'SLUICE_E_HOSTS_APART',
    `${inWords(pairs)} do not reach each other, though all reach the coordinator.`,
    { details: { ...cause.details, hosts: pairs }, cause },
  );
}

function inWords(pairs: readonly [string, string][]): string {
  return pairs
    .map(([one, other]) => (one === other ? `workers of ${one}` : `${one} and ${other}`))
    .join(', ');
}

interface Member {
  readonly rank: number;
  /** As people are told of it. */
  readonly name: string;
  readonly host: Host;
  readonly worker: StartedWorker;
  hasEnded: boolean;
}

/** As log lines name a worker: with its host, where there are several. */
function workerName({ name, address }: Host, rank: number): string {
  return address === undefined ? `worker ${rank}` : `${name}/${rank}`;
}

/** Where a worker is, where there are several hosts. */
function placeInWords({ name, address }: Host): string {
  return address === undefined ? '' : ` on ${name}`;
}
