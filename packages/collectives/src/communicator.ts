/** A worker's way to the coordinator and to the other workers, from its main thread. */

import { once } from 'node:events';
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { invariant, SluiceError } from '@sluice/core';
import { BlockedTime, monotonicMs } from './blockedTime.ts';
import { errorFromData, errorToData } from './controlProtocol.ts';
import { DirectExchange } from './directExchange.ts';
import type { Group, Pending } from './group.ts';
import { hostGrid } from './hostGrid.ts';
import { areNear, type Invitation } from './invitation.ts';
import { bytesSent, OperationRecord, type OperationSpan } from './operationRecord.ts';
import { type Outside, type OutsideHost, OutsideOperation } from './outsideOperation.ts';
import { checkGroup } from './processGroup.ts';
import { DONE, OPERATION_SLOTS, PENDING, SharedState } from './sharedState.ts';
import { type Launcher, SoloGroup, ThreadGroup } from './threadGroup.ts';
import {
  DEFAULT_WORKER_LIMITS,
  type Failure,
  type FromThread,
  type ThreadOptions,
  type ToThread,
  type WorkerLimits,
} from './threadProtocol.ts';
import { ThreadPulse } from './threadPulse.ts';
import type { OperationName } from './wire.ts';

export interface ConnectOptions extends Invitation {
  readonly limits?: Partial<WorkerLimits>;
}

/** What the coordinator can call. */
export type Methods = { readonly [name: string]: (request: never) => unknown };

type Call = FromThread & { type: 'call' };

/** Longest time that a process which ends waits for its sockets, ms. */
const EXIT_LIMIT_MS = 3000;

/** Between two looks after what peers on this host wait for, while this thread waits for the other one, ms. */
const LOOK_MS = 1;

export class Communicator implements Launcher, OutsideHost {
  readonly rank: number;
  readonly size: number;
  /** All ranks. */
  readonly world: Group;
  readonly #blocked = new BlockedTime();
  readonly #options: ThreadOptions;
  readonly #thread: Worker;
  readonly #failures: MessagePort;
  readonly #state: SharedState;
  readonly #pulse: ThreadPulse;
  readonly #groups = new Map<string, Group>();
  readonly #slots = new Map<number, ThreadPending>();
  /** Of operations that are recorded and have not been seen to end. */
  readonly #spans = new Map<number, OperationSpan>();
  readonly #freeSlots = Array.from({ length: OPERATION_SLOTS }, (_, slot) => slot);
  readonly #errors = new Map<number, SluiceError>();
  readonly #lost = new Map<number, SluiceError>();
  readonly #direct: DirectExchange[] = [];
  #outside = 0;
  #activity = '';
  readonly #calls: Call[] = [];
  #onCall: () => void = () => {};
  #broken: SluiceError | undefined;
  #closed = false;

  /**
   * Starts the communication thread and waits until all workers of the run are connected.
   * @throws SLUICE_E_PROTOCOL_VERSION, SLUICE_E_WORKER_TIMEOUT
   */
  static async connect(options: ConnectOptions): Promise<Communicator> {
    const state = new SharedState();
    state.writeActivity('starting');
    const failures = new MessageChannel();
    const threadOptions: ThreadOptions = {
      ...options,
      limits: { ...DEFAULT_WORKER_LIMITS, ...options.limits },
      memory: state.memory,
      failures: failures.port2,
    };
    const thread = new Worker(new URL('./communicationThread.js', import.meta.url), {
      workerData: threadOptions,
      transferList: [failures.port2],
      // Loaders of the main thread (a test's, say) are not needed for compiled code.
      execArgv: [],
    });
    // A thread that gives up sends a message and exits, and both events can come before this function goes on.
    const exited = new Promise((resolve) => thread.once('exit', resolve));
    const [first] = (await once(thread, 'message')) as [FromThread];
    if (first.type === 'broken') {
      failures.port1.close();
      await exited;
      throw errorFromData(first.error);
    }
    invariant(first.type === 'ready', `the communication thread began with ${first.type}`);
    return new Communicator(threadOptions, first.size, thread, failures.port1, state);
  }

  private constructor(
    options: ThreadOptions,
    size: number,
    thread: Worker,
    failures: MessagePort,
    state: SharedState,
  ) {
    this.#options = options;
    this.rank = options.rank;
    this.size = size;
    this.#thread = thread;
    this.#failures = failures;
    this.#state = state;
    this.#pulse = new ThreadPulse(options.rank, state);
    failures.unref();
    thread.on('message', (message: FromThread) => this.#receive(message));
    thread.on('error', (error) => this.#break(error));
    process.on('exit', this.#onExit);
    this.world = this.group(Array.from({ length: size }, (_, r) => r));
  }

  /** The group of these world ranks: ascending, the own one among them. The same list gives the same group. */
  group(ranks: readonly number[]): Group {
    const key = ranks.join(',');
    let group = this.#groups.get(key);
    if (group === undefined) {
      checkGroup(ranks, this.rank, this.size);
      const grid = hostGrid(ranks, this.#options.hosts ?? []);
      group =
        ranks.length === 1 ? new SoloGroup(this.rank) : new ThreadGroup(this, [...ranks], this.rank, grid);
      this.#groups.set(key, group);
    }
    return group;
  }

  /** Notes what this worker is doing; heartbeats carry it, and errors show it. */
  progress(text: string): void {
    this.#activity = text;
    this.#state.writeActivity(text);
  }

  /** How long the main thread has been blocked in operations so far. */
  get blocked(): BlockedTime {
    return this.#blocked;
  }

  /**
   * Records the operations that are launched, and the waits for any, from now on.
   * @returns ends that, and gives the record; of operations still under way the end is not known
   */
  record(): () => OperationRecord {
    const record = new OperationRecord();
    this.#blocked.record = record;
    return () => {
      this.#blocked.record = undefined;
      // Settled ones that nobody has looked at yet.
      for (const pending of [...this.#slots.values()]) void pending.done;
      return record;
    };
  }

  get limitMs(): number {
    return this.#options.limits.collectiveMs;
  }

  /** Ranks of one host see each other's memory. */
  openDirect(group: Group): DirectExchange | undefined {
    if (!areNear(this.#options, group.ranks)) return undefined;
    const direct = DirectExchange.open(group, this);
    if (direct !== undefined) this.#direct.push(direct);
    return direct;
  }

  /** An operation that the ranks' devices carry out, and that was launched just now; it is waited for as others are. */
  outside(operation: Outside): Pending {
    return new OutsideOperation(operation, this.#outside++, this);
  }

  servePeers(): void {
    for (const direct of this.#direct) direct.move();
  }

  checkAlive(ranks: readonly number[]): void {
    this.#pulse.check();
    if (this.#state.lost === 0) return;
    this.#readFailures();
    const lost = ranks.find((rank) => this.#lost.has(rank));
    if (lost !== undefined) throw this.#lost.get(lost)!;
  }

  waitsIn(operation: string | undefined): void {
    const under = operation === undefined ? '' : `; under way: ${operation}`;
    this.#state.writeActivity(`${this.#activity}${under}`);
  }

  /** Hands an operation to the communication thread. */
  launch(ranks: readonly number[], name: OperationName, args: readonly unknown[]): Pending {
    if (this.#broken !== undefined) throw this.#broken;
    invariant(!this.#closed, `${name} is launched on a closed communicator`);
    const slot = this.#takeSlot();
    const pending = new ThreadPending((wait) => this.#outcome(slot, name, wait));
    const { record } = this.#blocked;
    if (record !== undefined) {
      const bytes = bytesSent(name, args, ranks.indexOf(this.rank), ranks.length);
      this.#spans.set(slot, record.launch(name, ranks, bytes, monotonicMs()));
    }
    this.#slots.set(slot, pending);
    this.#state.reset(slot);
    this.#post({ type: 'launch', slot, ranks, name, args });
    return pending;
  }

  /**
   * Handles the coordinator's calls, one at a time and in order, until it has answered `stop`. Errors that a method
   * throws go to the coordinator, and serving goes on.
   */
  async serve(methods: Methods): Promise<void> {
    for (;;) {
      const call = await this.#nextCall();
      await this.#answer(call, methods);
      if (call.method === 'stop') return;
    }
  }

  /** Says goodbye, lets what was sent leave, and ends the communication thread. */
  async close(reason = 'finished'): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    process.off('exit', this.#onExit);
    const exited = once(this.#thread, 'exit');
    this.#post({ type: 'close', reason });
    await exited;
    this.#failures.close();
  }

  /** A process that ends while its sockets are open loses what was sent and may crash, so they are closed first. */
  readonly #onExit = (code: number): void => {
    this.#post({ type: 'close', reason: `its process ended with code ${code}` });
    this.#state.blockUntilClosed(EXIT_LIMIT_MS);
  };

  async #answer(call: Call, methods: Methods): Promise<void> {
    const method = methods[call.method] as ((request: unknown) => unknown) | undefined;
    this.progress(call.method);
    try {
      if (method === undefined && call.method !== 'stop') {
        throw new SluiceError('SLUICE_E_WORKER_FAILED', `Workers have no method ${call.method}.`);
      }
      this.#post({ type: 'result', id: call.id, value: await method?.(call.request) });
    } catch (error) {
      const where = `Rank ${this.rank} failed in ${call.method}`;
      this.#post({ type: 'failure', id: call.id, error: errorToData(error, where) });
    }
    this.progress('idle');
  }

  async #nextCall(): Promise<Call> {
    for (;;) {
      if (this.#broken !== undefined) throw this.#broken;
      const call = this.#calls.shift();
      if (call !== undefined) return call;
      await new Promise<void>((resolve) => {
        this.#onCall = resolve;
      });
    }
  }

  #receive(message: FromThread): void {
    if (message.type === 'call') this.#calls.push(message);
    else if (message.type === 'broken') this.#broken ??= errorFromData(message.error);
    this.#onCall();
  }

  #break(error: unknown): void {
    this.#broken ??= errorFromData(errorToData(error, 'communication thread'));
    this.#onCall();
  }

  #post(message: ToThread): void {
    this.#thread.postMessage(message);
  }

  /** The state of an operation, after it has settled if `wait`; undefined while it has not. */
  #outcome(slot: number, name: OperationName, wait: boolean): { error?: SluiceError } | undefined {
    if (wait) {
      const start = monotonicMs();
      this.#block(slot);
      this.#blocked.count(name, start, this.#state.begun(slot));
    }
    const state = this.#state.state(slot);
    if (state === PENDING) return undefined;
    this.#noteEnd(slot);
    this.#slots.delete(slot);
    this.#freeSlots.push(slot);
    return state === DONE ? {} : { error: this.#failureOf(slot) };
  }

  /** For whoever records the operation of a settled slot. */
  #noteEnd(slot: number): void {
    const span = this.#spans.get(slot);
    if (span === undefined) return;
    this.#spans.delete(slot);
    span.begun = this.#state.begun(slot);
    span.ended = this.#state.ended(slot);
  }

  /**
   * Blocks while the communication thread shows that it lives; it limits the operations itself. Peers on this host may
   * need something of this rank, or room for what they send to it, before they come to the operation.
   */
  #block(slot: number): void {
    while (this.#state.state(slot) === PENDING) {
      this.servePeers();
      this.#state.block(slot, this.#direct.some(({ isUnderway }) => isUnderway) ? LOOK_MS : 1000);
      this.#pulse.check();
    }
  }

  #failureOf(slot: number): SluiceError {
    this.#readFailures();
    const error = this.#errors.get(slot);
    this.#errors.delete(slot);
    invariant(error !== undefined, 'a failed operation has an error');
    return error;
  }

  #readFailures(): void {
    for (let next = receiveMessageOnPort(this.#failures); next; next = receiveMessageOnPort(this.#failures)) {
      const failure = next.message as Failure;
      const error = errorFromData(failure.error);
      if ('slot' in failure) this.#errors.set(failure.slot, error);
      else this.#lost.set(failure.lost, error);
    }
  }

  /** A free slot; when there is none, those of operations that have settled without being waited for. */
  #takeSlot(): number {
    if (this.#freeSlots.length === 0) {
      for (const pending of [...this.#slots.values()]) void pending.done;
    }
    const slot = this.#freeSlots.pop();
    invariant(slot !== undefined, `more than ${OPERATION_SLOTS} operations are under way`);
    return slot;
  }
}

/** An operation that the communication thread carries out. Remembers its outcome once it is known. */
class ThreadPending implements Pending {
  readonly #look: (wait: boolean) => { error?: SluiceError } | undefined;
  #outcome: { error?: SluiceError } | undefined;

  constructor(look: (wait: boolean) => { error?: SluiceError } | undefined) {
    this.#look = look;
  }

  get done(): boolean {
    this.#outcome ??= this.#look(false);
    return this.#outcome !== undefined;
  }

  wait(): void {
    this.#outcome ??= this.#look(true);
    if (this.#outcome?.error !== undefined) throw this.#outcome.error;
  }
}
