/**
 * Messages between ranks over ZeroMQ: each rank binds one PULL socket, and connects one PUSH socket to each peer's.
 * A message is a header frame and, with a payload, one raw frame that is sent from the caller's memory.
 *
 * Ranks on one host (`ipc`) can lay their payloads into a shared ring (`shared-ring.ts`) and send the header only.
 */

import { tmpdir } from 'node:os';
import { invariant } from '@sluice/core';
import { Pull, Push } from 'zeromq';
import { bindOrRefuse } from './sockets.ts';
import { MemoryPayload, type MessageHandler, type Transport } from './transport.ts';
import { decodeHeader, encodeHeader, HEADER_BYTES, type MessageHeader, runTag } from './wire.ts';

export type TransportKind = 'ipc' | 'tcp';

export interface ZeroMqTransportOptions {
  readonly kind: TransportKind;
  readonly rank: number;
  /** Secret of the run: messages that do not carry its mark are ignored. */
  readonly token: string;
  /** Address that peers reach this host by (tcp). */
  readonly host?: string;
  /** Private directory for the endpoint (ipc). */
  readonly directory?: string;
  /** Largest payload of one message, bytes. */
  readonly chunkBytes?: number;
}

/** Messages that may wait on each connection, at each end. Credit bounds them before this does. */
const QUEUE_MESSAGES = 16;

/** Time that messages already accepted may take to leave when the transport closes, ms. */
const LINGER_MS = 2000;

export class ZeroMqTransport implements Transport {
  readonly rank: number;
  readonly chunkBytes: number;
  /** Where peers reach this rank. */
  readonly endpoint: string;
  readonly #tag: number;
  readonly #pull: Pull;
  readonly #pushes = new Map<number, Push>();
  #size = 0;
  #closed = false;

  /** Binds an endpoint of this rank; `connect` makes it usable. */
  static async open(options: ZeroMqTransportOptions): Promise<ZeroMqTransport> {
    const chunkBytes = options.chunkBytes ?? 1 << 20;
    const pull = new Pull({
      receiveHighWaterMark: QUEUE_MESSAGES,
      // The largest frame that a peer may send; anything longer closes its connection.
      maxMessageSize: Math.max(chunkBytes, HEADER_BYTES),
      linger: 0,
    });
    const address =
      options.kind === 'ipc'
        ? `ipc://${options.directory ?? tmpdir()}/rank-${options.rank}-${process.pid}`
        : `tcp://${options.host ?? '127.0.0.1'}:*`;
    await bindOrRefuse(pull, address);
    return new ZeroMqTransport(options, chunkBytes, pull);
  }

  private constructor(options: ZeroMqTransportOptions, chunkBytes: number, pull: Pull) {
    this.rank = options.rank;
    this.chunkBytes = chunkBytes;
    this.endpoint = pull.lastEndpoint!;
    this.#tag = runTag(options.token);
    this.#pull = pull;
  }

  /** Ranks of the world; known once connected. */
  get size(): number {
    return this.#size;
  }

  /** Connects to all peers; `endpoints` are in the order of ranks. */
  connect(endpoints: readonly string[]): void {
    this.#size = endpoints.length;
    for (const [rank, endpoint] of endpoints.entries()) {
      if (rank === this.rank) continue;
      const push = new Push({ sendHighWaterMark: QUEUE_MESSAGES, linger: LINGER_MS });
      push.connect(endpoint);
      this.#pushes.set(rank, push);
    }
  }

  async send(to: number, header: MessageHeader, payload?: Uint8Array): Promise<void> {
    const push = this.#pushes.get(to);
    invariant(push !== undefined, `rank ${this.rank} is not connected to rank ${to}`);
    if (this.#closed) return;
    const frame = encodeHeader(header, this.#tag);
    await push.send(payload === undefined ? frame : [frame, payload]);
  }

  onMessage(handler: MessageHandler): void {
    void this.#receiveAll(handler);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const push of this.#pushes.values()) push.close();
    this.#pull.close();
  }

  async #receiveAll(handler: MessageHandler): Promise<void> {
    for await (const [frame, payload] of this.#pull) {
      const header = frame && decodeHeader(frame, this.#tag);
      if (header !== undefined) handler(header, payload && new MemoryPayload(payload));
    }
  }
}
