/**
 * Messages between ranks over ZeroMQ: each rank binds one PULL socket, and connects one PUSH socket to each peer's.
 * A message is a header frame, its seal where that is asked for, and, with a payload, one raw frame that is sent from the caller's memory.
 *
 * Ranks on one host (`ipc`) read payloads in the sender's memory (`peerMemory.ts`), or, where they cannot, in a shared ring
 * (`sharedRing.ts`); then only the header is sent. Where there are
 * several hosts (`tcp`), a rank with others on its own binds a second socket for those.
 */

import { tmpdir } from 'node:os';
import { invariant, SluiceError } from '@sluice/core';
import { type Context, Pull, Push } from 'zeromq';
import { awakeTimeout } from './awakeTime.ts';
import { FrameMemory } from './frameMemory.ts';
import { OwnMemory, PeerMemory } from './peerMemory.ts';
import { SealCheck, Sealer } from './seal.ts';
import { CURVE_OVERHEAD_BYTES, type CurveKeys, connectorSecurity, listenerSecurity } from './security.ts';
import { RingReader, RingWriter } from './sharedRing.ts';
import { bindOrRefuse, bindReachable, connectTo, receiveAll } from './sockets.ts';
import { MemoryPayload, type MessageHandler, type Payload, type Transport } from './transport.ts';
import {
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
  type HeaderPlacement,
  type MessageHeader,
  runTag,
} from './wire.ts';

export type TransportKind = 'ipc' | 'tcp';

export interface ZeroMqTransportOptions {
  readonly kind: TransportKind;
  readonly rank: number;
  /** Secret of the run: messages that do not carry its mark are ignored. */
  readonly token: string;
  /** Address that peers reach this host by (tcp). */
  readonly host?: string;
  /** Private directory for the endpoint of ranks of this host. */
  readonly directory?: string;
  /** Whether there are other ranks on this host, beside those on others (tcp). */
  readonly hasNeighbours?: boolean;
  /** Largest payload of one message, bytes. */
  readonly chunkBytes?: number;
  /** Encrypts and authenticates connections (tcp); the context's `Authenticator` must run. */
  readonly curve?: CurveKeys;
  /** Whether what goes over tcp is sealed by the token, where it is not encrypted (`seal.ts`). */
  readonly seals?: boolean;
  readonly context?: Context;
  /** Whether ranks of this host read each other's memory, where they can; so by default. */
  readonly readsMemory?: boolean;
  /**
   * Told that a connection to a peer was broken (tcp): what was on its way is lost, and the peer may not even know. Not told at once,
   * since whoever sees that the peer's process has ended knows more.
   */
  readonly onBroken?: (rank: number, error: SluiceError) => void;
  /** Told of a message that was left out, for its seal does not prove that it is of the rank that it names. */
  readonly onForged?: (rank: number) => void;
}

/** Messages that may wait on each connection, at each end. Credit bounds them before this does. */
const QUEUE_MESSAGES = 8;

/** Payloads are cut into so many bytes. In a ring, fewer and larger ones save wake-ups and still fit the cache. */
const CHUNK_BYTES = { ipc: 2 << 20, tcp: 1 << 20 } as const;

/** What is no longer than this does not wait behind what is. */
const MOST_SHORT_BYTES = 1 << 14;

/** Shorter payloads than this travel in the message; a slot of the ring would save nothing. */
const RING_MIN_BYTES = 1 << 16;

/**
 * How a connection between machines is kept: TCP bears an outage this long, ms, without losing anything; after it the connection is
 * broken, which is told so much later. One that carries nothing is looked after, so that nothing on the way forgets it.
 */
const OUTAGE_MS = 30_000;
const TELL_BROKEN_AFTER_MS = 2000;
const TCP = {
  connectTimeout: 2000,
  reconnectMaxInterval: 2000,
  tcpMaxRetransmitTimeout: OUTAGE_MS,
  tcpKeepalive: 1,
  tcpKeepaliveIdle: 10,
  tcpKeepaliveInterval: 5,
  tcpKeepaliveCount: 4,
} as const;

/** Time that messages already accepted may take to leave when the transport closes, ms. */
const LINGER_MS = 2000;

export class ZeroMqTransport implements Transport {
  readonly rank: number;
  readonly chunkBytes: number;
  /** Where peers reach this rank. */
  readonly endpoint: string;
  /** Where those of its host reach it, if not there. */
  readonly near: string | undefined;
  readonly #tag: number;
  readonly #context: { readonly context?: Context };
  readonly #security: object;
  /** Of peers on other hosts, and of those on this one, as far as there are both. */
  readonly #listeners: readonly Listener[];
  readonly #token: string;
  readonly #seals: boolean;
  readonly #ways = new Map<number, Ways>();
  readonly #ring: RingWriter | undefined;
  readonly #rings = new Map<number, RingReader>();
  readonly #ownMemory: OwnMemory | undefined;
  readonly #memories = new Map<number, PeerMemory>();
  /** Peers that read this rank's memory. */
  readonly #readers = new Set<number>();
  /** Peers of other machines to which connections are missing, and how many. */
  readonly #unreached = new Map<number, number>();
  #onReached: () => void = () => {};
  /** Peers that can read this rank's ring. */
  readonly #attached = new Set<number>();
  readonly #frameMemory = new FrameMemory();
  readonly #onBroken: (rank: number, error: SluiceError) => void;
  readonly #onForged: (rank: number) => void;
  #size = 0;
  /** Peers on this host. */
  #nearPeers = 0;
  #closed = false;

  /** Binds an endpoint of this rank; `connect` makes it usable. */
  static async open(options: ZeroMqTransportOptions): Promise<ZeroMqTransport> {
    const chunkBytes = options.chunkBytes ?? CHUNK_BYTES[options.kind];
    const far = await listenFor(options, chunkBytes);
    const isAlsoNear = options.kind === 'tcp' && options.hasNeighbours === true;
    const near = isAlsoNear ? await listenFor({ ...options, kind: 'ipc' }, chunkBytes) : undefined;
    return new ZeroMqTransport(options, chunkBytes, far, near);
  }

  private constructor(
    options: ZeroMqTransportOptions,
    chunkBytes: number,
    far: Listener,
    near: Listener | undefined,
  ) {
    this.rank = options.rank;
    this.chunkBytes = chunkBytes;
    this.endpoint = far.endpoint;
    this.near = near?.endpoint;
    this.#tag = runTag(options.token);
    this.#token = options.token;
    this.#context = options.context === undefined ? {} : { context: options.context };
    this.#security = socketSecurity(options).connector;
    this.#seals = options.seals ?? false;
    this.#listeners = near === undefined ? [far] : [far, near];
    this.#onBroken = options.onBroken ?? (() => {});
    this.#onForged = options.onForged ?? (() => {});
    const sharesMemory = options.kind === 'ipc' || near !== undefined;
    this.#ring = sharesMemory ? RingWriter.open(options.token, options.rank, chunkBytes) : undefined;
    const isRead = sharesMemory && options.readsMemory !== false;
    this.#ownMemory = isRead ? OwnMemory.open(options.token, options.rank) : undefined;
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
      const isTcp = endpoint.startsWith('tcp:');
      const link = this.#connect(rank, endpoint, isTcp);
      this.#ways.set(rank, { short: isTcp ? this.#connect(rank, endpoint, isTcp) : link, long: link });
      if (isTcp) continue;
      this.#nearPeers++;
      if (this.#ownMemory !== undefined) {
        const place = this.#ownMemory.markAddress;
        this.#tell(link, 'memory', { place, placedBytes: process.pid, isAddress: true });
      }
      const ring = RingReader.open(this.#token, rank);
      if (ring === undefined) continue;
      this.#rings.set(rank, ring);
      this.#tell(link, 'attach');
    }
    if (this.#nearPeers === 0) this.#ring?.unlink();
  }

  #connect(rank: number, endpoint: string, isTcp: boolean): Link {
    const push = new Push({
      ...(isTcp ? { ...this.#security, ...TCP } : this.#context),
      sendHighWaterMark: QUEUE_MESSAGES,
      linger: LINGER_MS,
    });
    if (isTcp) {
      this.#unreached.set(rank, (this.#unreached.get(rank) ?? 0) + 1);
      this.#watch(push, rank);
    }
    connectTo(push, endpoint);
    const sealer = isTcp && this.#seals ? new Sealer(this.#token, this.rank, rank) : undefined;
    return new Link(push, rank, sealer);
  }

  /**
   * Waits until there are connections to each peer of another machine.
   * @returns those to whom none came about in time
   */
  async unreached(limitMs: number): Promise<number[]> {
    await new Promise<void>((resolve) => {
      const endWait = awakeTimeout(limitMs, resolve);
      this.#onReached = () => {
        if (this.#unreached.size > 0) return;
        endWait();
        resolve();
      };
      this.#onReached();
    });
    return [...this.#unreached.keys()].sort((a, b) => a - b);
  }

  async send(to: number, header: MessageHeader, payload?: Uint8Array): Promise<void> {
    const ways = this.#ways.get(to);
    invariant(ways !== undefined, `rank ${this.rank} is not connected to rank ${to}`);
    const link = (payload?.length ?? 0) <= MOST_SHORT_BYTES ? ways.short : ways.long;
    if (payload === undefined) {
      await link.send([encodeHeader(header, this.#tag)]);
    } else if (payload.length >= RING_MIN_BYTES && this.#readers.has(to)) {
      const place = this.#ownMemory!.placeOf(payload);
      await link.send([
        encodeHeader(header, this.#tag, { place, placedBytes: payload.length, isAddress: true }),
      ]);
    } else if (this.#ring !== undefined && payload.length >= RING_MIN_BYTES && this.#attached.has(to)) {
      const place = await this.#ring.put(payload);
      await link.send([encodeHeader(header, this.#tag, { place, placedBytes: payload.length })]);
    } else {
      await link.send([encodeHeader(header, this.#tag), payload]);
    }
  }

  onMessage(handler: MessageHandler): void {
    for (const listener of this.#listeners)
      void receiveAll(listener.socket, (...frames) => this.#receive(listener, frames, handler));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const { short, long } of this.#ways.values())
      for (const link of new Set([short, long])) link.close();
    for (const { socket } of this.#listeners) socket.close();
    this.#ring?.close();
    for (const ring of this.#rings.values()) ring.close();
  }

  async #receive(
    { seals }: Listener,
    [frame, ...rest]: (Buffer | undefined)[],
    handler: MessageHandler,
  ): Promise<void> {
    const header = frame && decodeHeader(frame, this.#tag);
    if (header === undefined) return;
    const seal = seals && rest.shift();
    const [payload] = rest;
    if (seals && !seals.isGenuine(header.from, seal, payload ? [frame!, payload] : [frame!])) {
      this.#onForged(header.from);
      return;
    }
    if (header.kind === 'attach') this.#attach(header.from);
    else if (header.kind === 'memory') this.#openMemory(header);
    else if (header.kind === 'reads') this.#readers.add(header.from);
    else if (header.kind === 'release') this.#ring?.release(header.place);
    else handler(header, this.#payload(header, payload));
    if (payload !== undefined) await this.#frameMemory.dropped(payload.length);
  }

  #payload(header: MessageHeader & HeaderPlacement, frame: Buffer | undefined): Payload | undefined {
    if (header.placedBytes === 0) return frame && new MemoryPayload(frame);
    if (header.isAddress) return this.#memories.get(header.from)?.payload(header.place, header.placedBytes);
    const ring = this.#rings.get(header.from);
    invariant(ring !== undefined, `rank ${header.from} uses a ring that rank ${this.rank} has not opened`);
    const { place, placedBytes } = header;
    return ring.payload(place, placedBytes, () => {
      this.#tell(this.#ways.get(header.from)?.short, 'release', { place, placedBytes });
    });
  }

  /** Says something that concerns the transports alone. */
  #tell(
    link: Link | undefined,
    kind: 'attach' | 'release' | 'memory' | 'reads',
    placement?: HeaderPlacement,
  ): void {
    void link?.send([encodeHeader({ ...OF_NO_OPERATION, kind, from: this.rank }, this.#tag, placement)]);
  }

  #openMemory({ from, place, placedBytes: pid }: MessageHeader & HeaderPlacement): void {
    const peer = { token: this.#token, rank: from };
    const memory = PeerMemory.open(peer, pid, place, () => {
      this.#onBroken(from, connectionLost(from, new Error('its memory cannot be read any more'), this.rank));
    });
    if (memory === undefined) return;
    this.#memories.set(from, memory);
    this.#tell(this.#ways.get(from)?.short, 'reads');
  }

  #watch(push: Push, rank: number): void {
    let isReached = false;
    push.events.on('handshake', () => {
      if (isReached) return;
      isReached = true;
      const missing = this.#unreached.get(rank)! - 1;
      if (missing > 0) this.#unreached.set(rank, missing);
      else this.#unreached.delete(rank);
      this.#onReached();
    });
    push.events.on('disconnect', () => {
      const cause = new Error('it was ended, or nothing came through it');
      const tell = () => {
        if (!this.#closed) this.#onBroken(rank, connectionLost(rank, cause, this.rank));
      };
      setTimeout(tell, TELL_BROKEN_AFTER_MS).unref();
    });
  }

  #attach(peer: number): void {
    this.#attached.add(peer);
    if (this.#attached.size === this.#nearPeers) this.#ring?.unlink();
  }
}

/** A socket that takes messages of peers, and where they reach it. */
interface Listener {
  readonly socket: Pull;
  readonly endpoint: string;
  /** By what messages are known to be of the run, where they are sealed. */
  readonly seals?: SealCheck;
}

async function listenFor(options: ZeroMqTransportOptions, chunkBytes: number): Promise<Listener> {
  const { kind, rank, token, host = '127.0.0.1', directory = tmpdir() } = options;
  const socket = new Pull({
    ...socketSecurity(options).listener,
    receiveHighWaterMark: QUEUE_MESSAGES,
    // The largest frame that a peer may send, as it is on the wire; anything longer closes its connection.
    maxMessageSize: Math.max(chunkBytes, HEADER_BYTES) + CURVE_OVERHEAD_BYTES,
    linger: 0,
  });
  if (kind === 'tcp') {
    const seals = options.seals ? { seals: new SealCheck(token, rank) } : {};
    return { socket, endpoint: await bindReachable(socket, host), ...seals };
  }
  await bindOrRefuse(socket, `ipc://${directory}/rank-${rank}-${process.pid}`);
  return { socket, endpoint: socket.lastEndpoint! };
}

/** Within one host, permissions of the file system protect the endpoints. */
function socketSecurity({ kind, curve, context }: ZeroMqTransportOptions): {
  listener: object;
  connector: object;
} {
  const keys = kind === 'tcp' ? curve : undefined;
  const shared = context === undefined ? {} : { context };
  return {
    listener: { ...shared, ...listenerSecurity(keys) },
    connector: { ...shared, ...connectorSecurity(keys) },
  };
}

/** What headers between transports say of an operation. */
const OF_NO_OPERATION = {
  operation: 'barrier',
  dataType: 'uint8',
  phase: 0,
  group: 0,
  sequence: 0,
  offset: 0,
  total: 0,
} as const;

/**
 * The ways to a peer. Over tcp there are two connections: at the rate of a slow link, a confirmation or a number that all wait for
 * would be behind all that lies in the sockets' buffers. Messages may overtake each other (`operation.ts`).
 */
interface Ways {
  readonly short: Link;
  readonly long: Link;
}

/** A connection. A socket takes one message at a time, so each waits for the one before. */
class Link {
  readonly #push: Push;
  readonly #rank: number;
  readonly #sealer: Sealer | undefined;
  #last: Promise<void> = Promise.resolve();

  /** @param rank of the peer */
  constructor(push: Push, rank: number, sealer: Sealer | undefined) {
    this.#push = push;
    this.#rank = rank;
    this.#sealer = sealer;
  }

  /** @param frames the header, and the payload if there is one */
  send(frames: readonly [Uint8Array, ...Uint8Array[]]): Promise<void> {
    const sent = this.#last.then(() => this.#sendNow(frames));
    this.#last = sent.catch(() => {});
    return sent;
  }

  /** What still waits in line when the socket closes is dropped. */
  async #sendNow(frames: readonly [Uint8Array, ...Uint8Array[]]): Promise<void> {
    if (this.#push.closed) return;
    const [header, ...payload] = frames;
    try {
      await this.#push.send(
        this.#sealer ? [header, this.#sealer.seal(frames), ...payload] : [header, ...payload],
      );
    } catch (error) {
      if (!this.#push.closed) throw connectionLost(this.#rank, error);
    }
  }

  close(): void {
    this.#push.close();
  }
}

/** @param from rank whose connection it was, where peers of other machines are concerned */
function connectionLost(rank: number, cause: unknown, from?: number): SluiceError {
  return new SluiceError(
    'SLUICE_E_WORKER_LOST',
    `The connection to rank ${rank} is broken: ${(cause as Error).message}.`,
    { details: { rank, ...(from !== undefined && { from }) }, cause },
  );
}
