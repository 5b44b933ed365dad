/**
 * One collective operation on one rank, as streams: bytes that go to a peer, and bytes that come from one. An
 * operation is complete when every stream is, and when the receivers of its longer streams have confirmed them,
 * for only then may the caller change the memory that they are sent from.
 *
 * A receiver says how far it takes a stream (credit), so nothing arrives that has no place yet: a rank that is
 * ahead of another waits for it, and no queue grows. Streams of up to EAGER_BYTES are sent at once, as copies.
 */

import { invariant, SluiceError } from '@sluice/core';
import type { DataType } from './arrays.ts';
import { monotonicMs } from './blockedTime.ts';
import type { Payload } from './transport.ts';
import type { MessageHeader, OperationName } from './wire.ts';

/** Streams of at most so many bytes need no credit: they are sent as soon as the operation begins. */
export const EAGER_BYTES = 1 << 14;

/** Bytes of a stream that a receiver, which must hold them until all ranks' have come, takes ahead. */
export const CREDIT_WINDOW_BYTES = 8 << 20;

export interface OutgoingStream {
  /** World rank. */
  readonly peer: number;
  readonly phase: number;
  readonly source: Uint8Array;
  /** Whether chunks are copied when they are sent. */
  readonly copy: boolean;
  /** Whether completion waits for the receiver's confirmation. */
  readonly confirm: boolean;
  /** Bytes that exist already. */
  available: number;
  /** Bytes that the receiver takes. */
  granted: number;
  sent: number;
  confirmed: boolean;
}

export interface IncomingStream {
  /** World rank. */
  readonly peer: number;
  readonly phase: number;
  readonly total: number;
  /** Whether the sender waits for a confirmation. */
  readonly confirm: boolean;
  /** Takes one chunk, once; must release the payload, now or later, and tell the operation by `used`. */
  readonly take: (offset: number, payload: Payload, stream: IncomingStream) => void;
  /** Chunks that came, by index. */
  readonly chunks: Set<number>;
  received: number;
  /** Bytes that are needed no more where they came from. */
  used: number;
  granted: number;
}

/** What an operation needs of the exchange that carries its messages. */
export interface Carrier {
  readonly chunkBytes: number;
  /** Queues a message without payload. */
  control(to: number, header: Omit<MessageHeader, 'from'>): void;
  /** Something in the operation's outgoing streams to `peer` may be ready to be sent. */
  wake(peer: number): void;
}

export class Operation {
  readonly name: OperationName;
  readonly dataType: DataType;
  readonly group: number;
  readonly ranks: readonly number[];
  readonly sequence: number;
  /** When the last peer was heard of (`begun`). */
  readonly finished: Promise<number>;
  readonly outgoing: OutgoingStream[] = [];
  readonly incoming: IncomingStream[] = [];
  readonly #launchedAt = monotonicMs();
  readonly #carrier: Carrier;
  readonly #resolve: (begun: number) => void;
  readonly #reject: (error: Error) => void;
  #state: 'building' | 'running' | 'done' | 'failed' = 'building';
  /** Peers that must say something before the operation can end, and have not yet. */
  readonly #silent = new Set<number>();
  /** When the last of them did, monotonic ms: before, one of them may not have begun the operation. */
  #begun = Number.NEGATIVE_INFINITY;

  constructor(
    identity: Pick<Operation, 'name' | 'dataType' | 'group' | 'ranks' | 'sequence'>,
    carrier: Carrier,
  ) {
    this.name = identity.name;
    this.dataType = identity.dataType;
    this.group = identity.group;
    this.ranks = identity.ranks;
    this.sequence = identity.sequence;
    this.#carrier = carrier;
    const { promise, resolve, reject } = promiseParts();
    this.finished = promise;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get running(): boolean {
    return this.#state === 'building' || this.#state === 'running';
  }

  /** Since it was launched. */
  get ageMs(): number {
    return monotonicMs() - this.#launchedAt;
  }

  /**
   * Adds a stream to `peer`, unless it is empty.
   * @param options.available bytes that exist already; all of them by default
   */
  send(
    peer: number,
    source: Uint8Array,
    options: { phase?: number; available?: number; confirm?: boolean } = {},
  ): OutgoingStream | undefined {
    if (source.length === 0) return undefined;
    const eager = source.length <= EAGER_BYTES;
    const available = options.available ?? source.length;
    const stream: OutgoingStream = {
      peer,
      phase: options.phase ?? 0,
      // What is sent unasked may still be on its way when the operation ends, so it needs memory of its own.
      source: eager && available === source.length ? source.slice() : source,
      copy: eager && available < source.length,
      confirm: !eager && (options.confirm ?? true),
      available,
      granted: eager ? source.length : 0,
      sent: 0,
      confirmed: false,
    };
    this.outgoing.push(stream);
    return stream;
  }

  /** Adds a stream from `peer`. `granted`: bytes that it may send at once, all by default. */
  receive(
    peer: number,
    total: number,
    take: IncomingStream['take'],
    options: { phase?: number; granted?: number; confirm?: boolean } = {},
  ): IncomingStream | undefined {
    if (total === 0) return undefined;
    const eager = total <= EAGER_BYTES;
    const stream: IncomingStream = {
      peer,
      phase: options.phase ?? 0,
      total,
      confirm: !eager && (options.confirm ?? true),
      take,
      chunks: new Set(),
      received: 0,
      used: 0,
      granted: eager ? total : Math.min(options.granted ?? total, total),
    };
    this.incoming.push(stream);
    return stream;
  }

  /** Tells the peers what this rank takes, and lets it all move. */
  begin(): void {
    this.#state = 'running';
    for (const { peer } of this.incoming) this.#silent.add(peer);
    for (const { peer, granted, source } of this.outgoing)
      if (granted < source.length) this.#silent.add(peer);
    for (const stream of this.incoming) {
      if (stream.total > EAGER_BYTES) this.#control('credit', stream, stream.granted);
    }
    for (const stream of this.outgoing) this.#carrier.wake(stream.peer);
    this.#settle();
  }

  /** Lets the sender of `stream` go on up to byte `upTo`; says so when at least half a window has been gained. */
  grant(stream: IncomingStream, upTo: number): void {
    const granted = Math.min(upTo, stream.total);
    const worthSaying = granted === stream.total || granted - stream.granted >= CREDIT_WINDOW_BYTES / 2;
    if (granted <= stream.granted || !worthSaying) return;
    stream.granted = granted;
    this.#control('credit', stream, granted);
  }

  /** Bytes of a stream are needed no more where they came from. Once all are, the sender is told, if it waits for that. */
  used(stream: IncomingStream, bytes: number): void {
    stream.used += bytes;
    if (stream.confirm && stream.used === stream.total) this.#control('confirm', stream, stream.total);
  }

  /** Says that more of an outgoing stream exists. */
  extend(stream: OutgoingStream, available: number): void {
    stream.available = available;
    this.#carrier.wake(stream.peer);
  }

  /** A message of this operation arrived. Repeated ones change nothing. */
  handle(header: MessageHeader, payload: Payload | undefined): void {
    if (!this.running) {
      payload?.release();
      return;
    }
    if (this.#silent.delete(header.from) && this.#silent.size === 0) this.#begun = monotonicMs();
    if (header.kind === 'data') this.#handleData(header, payload);
    else this.#handleControl(header);
    this.#settle();
  }

  /** A chunk of an outgoing stream was accepted by the transport. */
  sent(stream: OutgoingStream, bytes: number): void {
    stream.sent += bytes;
    if (stream.sent === stream.source.length) this.#settle();
  }

  fail(error: Error): void {
    if (!this.running) return;
    this.#state = 'failed';
    this.#reject(error);
  }

  /** For messages: what it is, and what is still missing, peer by peer. */
  describe(): string {
    return describeOperation(this);
  }

  /** World ranks that this one still waits for, each with what is missing. */
  waitingFor(): Map<number, string> {
    const missing = new Map<number, string>();
    for (const stream of this.incoming) {
      if (isReceived(stream)) continue;
      missing.set(stream.peer, `${stream.received} of ${stream.total} bytes came from it`);
    }
    for (const stream of this.outgoing) {
      if (isSettled(stream) || missing.has(stream.peer)) continue;
      // A rank without streams of its own that stalls is only waiting for those above.
      if (stream.available < stream.source.length) continue;
      const reason =
        stream.granted === 0
          ? 'it has not begun the operation'
          : stream.sent < stream.granted
            ? `it takes no more than ${stream.sent} of ${stream.source.length} bytes`
            : 'it has not confirmed what was sent to it';
      missing.set(stream.peer, reason);
    }
    return missing;
  }

  #handleData(header: MessageHeader, payload: Payload | undefined): void {
    const stream = this.incoming.find((s) => s.peer === header.from && s.phase === header.phase);
    if (!this.#matches(header, stream?.total)) {
      payload?.release();
      return;
    }
    invariant(stream !== undefined, 'a header that matches belongs to a stream');
    const chunkBytes = this.#carrier.chunkBytes;
    const expected = Math.min(chunkBytes, stream.total - header.offset);
    const length = payload?.byteLength ?? 0;
    if (header.offset % chunkBytes !== 0 || length !== expected) {
      payload?.release();
      this.fail(
        new SluiceError(
          'SLUICE_E_COLLECTIVE_MISMATCH',
          `Rank ${header.from} sent ${length} bytes at ${header.offset} for ${this.describe()}; expected ${expected}.`,
        ),
      );
      return;
    }
    const index = header.offset / chunkBytes;
    if (stream.chunks.has(index)) {
      payload?.release();
      return;
    }
    stream.chunks.add(index);
    stream.received += length;
    if (payload !== undefined) stream.take(header.offset, payload, stream);
  }

  #handleControl(header: MessageHeader): void {
    const stream = this.outgoing.find((s) => s.peer === header.from && s.phase === header.phase);
    if (!this.#matches(header, stream?.source.length)) return;
    invariant(stream !== undefined, 'a header that matches belongs to a stream');
    if (header.kind === 'confirm') {
      stream.confirmed = true;
    } else if (header.offset > stream.granted) {
      stream.granted = Math.min(header.offset, stream.source.length);
      this.#carrier.wake(stream.peer);
    }
  }

  #matches(header: MessageHeader, total: number | undefined): boolean {
    if (header.operation === this.name && header.dataType === this.dataType && header.total === total) {
      return true;
    }
    const there = `${header.operation} of ${header.total} bytes (${header.dataType})`;
    const here = `${this.name} of ${total ?? 0} bytes (${this.dataType})`;
    this.fail(
      new SluiceError(
        'SLUICE_E_COLLECTIVE_MISMATCH',
        `Rank ${header.from} has ${there} where this rank has ${here}, as operation ${this.sequence} of group [${this.ranks.join(', ')}].`,
        { details: { peer: header.from, sequence: this.sequence } },
      ),
    );
    return false;
  }

  #control(kind: 'credit' | 'confirm', stream: IncomingStream, offset: number): void {
    this.#carrier.control(stream.peer, {
      kind,
      operation: this.name,
      dataType: this.dataType,
      phase: stream.phase,
      group: this.group,
      sequence: this.sequence,
      offset,
      total: stream.total,
    });
  }

  #settle(): void {
    if (this.#state !== 'running') return;
    if (!this.incoming.every(isReceived) || !this.outgoing.every(isSettled)) return;
    this.#state = 'done';
    this.#resolve(this.#begun);
  }
}

type Identity = Pick<Operation, 'name' | 'ranks' | 'sequence'>;

export function describeOperation({ name, ranks, sequence }: Identity): string {
  return `${name} ${sequence} of group [${ranks.join(', ')}]`;
}

/**
 * @param rank world rank that waited
 * @param waitingFor world ranks, each with what is missing
 */
export function timeoutError(
  rank: number,
  limitMs: number,
  operation: Identity,
  waitingFor: ReadonlyMap<number, string>,
): SluiceError {
  const missing = [...waitingFor].sort(([a], [b]) => a - b);
  const culprits = missing.map(([peer, reason]) => `rank ${peer} (${reason})`).join(', ');
  return new SluiceError(
    'SLUICE_E_COLLECTIVE_TIMEOUT',
    `Rank ${rank} waited ${limitMs / 1000} s in ${describeOperation(operation)} for ${culprits}.`,
    {
      details: {
        rank,
        operation: operation.name,
        group: operation.ranks,
        sequence: operation.sequence,
        waitingFor: missing.map(([peer]) => peer),
      },
    },
  );
}

function isReceived(stream: IncomingStream): boolean {
  return stream.received === stream.total;
}

function isSettled(stream: OutgoingStream): boolean {
  return stream.sent === stream.source.length && (!stream.confirm || stream.confirmed);
}

function promiseParts(): {
  promise: Promise<number>;
  resolve: (begun: number) => void;
  reject: (error: Error) => void;
} {
  let resolve!: (begun: number) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<number>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  // The group's caller sees a failure through its own promise; this one alone must not end the process.
  promise.catch(() => {});
  return { promise, resolve, reject };
}
