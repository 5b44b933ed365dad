/** A worker's end of the control plane. Lives in the communication thread. */

import { SluiceError } from '@sluice/core';
import { type Context, Dealer } from 'zeromq';
import { awakeTimeout } from './awakeTime.ts';
import {
  type CoordinatorMessages,
  decodeFromCoordinator,
  encodeMessage,
  errorFromData,
  HEARTBEAT_MS,
  MAX_CONTROL_BYTES,
  type WorkerMessages,
} from './controlProtocol.ts';
import { Outbox } from './outbox.ts';
import { type CurveKeys, connectorSecurity } from './security.ts';
import { connectTo, receiveAll } from './sockets.ts';
import type { WorkerState } from './workerState.ts';

export interface ControlClientOptions {
  readonly coordinator: string;
  /**
   * A coordinator of another machine that was not heard of for so long is gone, ms of this process's time awake. One whose
   * process is the parent of this one is there as long as that is: stopped for a while, it goes on with its workers.
   */
  readonly silenceMs: number;
  /** Process that must stay the parent of this one, for a worker that the coordinator started itself. */
  readonly parentPid?: number;
  readonly context: Context;
  readonly curve?: CurveKeys;
}

export interface ControlHandlers {
  /** What the worker is doing, for the heartbeat. */
  readonly activity: () => string;
  /** The same at length, for whoever asks. */
  readonly state: () => WorkerState;
  readonly onCall: (call: CoordinatorMessages['call']) => void;
  readonly onLost: (rank: number, error: SluiceError) => void;
  /** The coordinator is gone, or does not want this worker any more. */
  readonly onAbandoned: (reason: string) => void;
}

export class ControlClient {
  readonly #socket: Dealer;
  readonly #options: ControlClientOptions;
  readonly #outbox = new Outbox<Buffer>((frame) => this.#socket.send(frame));
  #heartbeat: NodeJS.Timeout | undefined;
  /** Own heartbeats since the coordinator was last heard of. */
  #beatsUnheard = 0;
  #everHeard = false;
  #closed = false;

  constructor(options: ControlClientOptions) {
    this.#options = options;
    this.#socket = new Dealer({
      context: options.context,
      ...connectorSecurity(options.curve),
      maxMessageSize: MAX_CONTROL_BYTES,
      linger: 2000,
    });
    connectTo(this.#socket, options.coordinator);
  }

  /**
   * Says hello and waits until all workers have.
   * @returns the workers' endpoints, in order of rank
   * @throws SLUICE_E_PROTOCOL_VERSION, SLUICE_E_WORKER_TIMEOUT
   */
  async join(hello: WorkerMessages['hello'], limitMs: number, handlers: ControlHandlers): Promise<string[]> {
    this.#startHeartbeat(handlers);
    this.send('hello', hello);
    return new Promise((resolve, reject) => {
      const endWait = awakeTimeout(limitMs, () => {
        reject(
          new SluiceError(
            'SLUICE_E_WORKER_TIMEOUT',
            `Rank ${hello.rank} waited ${limitMs / 1000} s for the coordinator at ${this.#options.coordinator} to gather all workers.`,
          ),
        );
      });
      const settle = (error?: Error, endpoints: string[] = []) => {
        endWait();
        if (error === undefined) resolve(endpoints);
        else reject(error);
      };
      receiveAll(this.#socket, (frame) => this.#receive(frame, handlers, settle)).catch(settle);
    });
  }

  send<K extends keyof WorkerMessages>(kind: K, body: WorkerMessages[K]): void {
    if (this.#closed) return;
    this.#outbox.push(encodeMessage<WorkerMessages, K>(kind, body));
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#heartbeat);
    await this.#outbox.emptied();
    // What was said to nobody need not be waited for.
    if (!this.#everHeard) this.#socket.linger = 0;
    this.#socket.close();
  }

  #receive(
    frame: Buffer | undefined,
    handlers: ControlHandlers,
    settleJoin: (error?: Error, endpoints?: string[]) => void,
  ): void {
    this.#beatsUnheard = 0;
    this.#everHeard = true;
    const message = frame && decodeFromCoordinator(frame);
    switch (message?.kind) {
      case 'world':
        settleJoin(undefined, message.body.endpoints);
        break;
      case 'refused':
        settleJoin(errorFromData(message.body.error));
        break;
      case 'call':
        handlers.onCall(message.body);
        break;
      case 'describe':
        this.send('state', { state: handlers.state() });
        break;
      case 'lost':
        handlers.onLost(message.body.rank, errorFromData(message.body.error));
        break;
    }
  }

  #startHeartbeat(handlers: ControlHandlers): void {
    const { parentPid, silenceMs, coordinator } = this.#options;
    this.#heartbeat = setInterval(() => {
      this.send('beat', { activity: handlers.activity() });
      if (parentPid !== undefined && process.ppid !== parentPid) {
        handlers.onAbandoned(`the coordinator (process ${parentPid}) has ended`);
        return;
      }
      const silentMs = HEARTBEAT_MS * this.#beatsUnheard++;
      if (parentPid === undefined && silentMs > silenceMs) {
        handlers.onAbandoned(
          `nothing was heard of the coordinator at ${coordinator} for ${Math.round(silentMs / 1000)} s`,
        );
      }
    }, HEARTBEAT_MS);
  }
}
