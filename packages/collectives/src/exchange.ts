/**
 * All the messages of one rank: sorts incoming ones to their operations, and sends outgoing ones, one at a time
 * for each peer, so that a slow peer holds up nobody else. Groups share one exchange.
 */

import { invariant, SluiceError } from '@sluice/core';
import {
  type Carrier,
  CREDIT_WINDOW_BYTES,
  EAGER_BYTES,
  type Operation,
  type OutgoingStream,
} from './operation.ts';
import type { Payload, Transport } from './transport.ts';
import type { MessageHeader } from './wire.ts';

/** Operations of one group that may be under way at once; more wait their turn where they were launched. */
export const MAX_OPERATIONS_IN_FLIGHT = 64;

/** Messages from one peer kept for operations that have not begun here; what the protocol allows is less. */
const MAX_EARLY_MESSAGES = 1 << 14;
const MAX_EARLY_BYTES = MAX_EARLY_MESSAGES * 1024;

interface EarlyMessage {
  readonly header: MessageHeader;
  readonly payload: Payload | undefined;
}

/** What waits to be sent to one peer. */
interface Outbox {
  readonly control: MessageHeader[];
  readonly streams: { operation: Operation; stream: OutgoingStream }[];
  sending: boolean;
}

export class Exchange implements Carrier {
  readonly rank: number;
  readonly size: number;
  readonly chunkBytes: number;
  readonly #transport: Transport;
  readonly #outboxes = new Map<number, Outbox>();
  /** Operations under way, by group and sequence number. */
  readonly #operations = new Map<number, Map<number, Operation>>();
  readonly #ended = new Map<number, EndedSequences>();
  readonly #early = new Map<string, EarlyMessage[]>();
  readonly #earlyLoad = new Map<number, { messages: number; bytes: number }>();
  readonly #lost = new Map<number, SluiceError>();
  #closed: SluiceError | undefined;

  constructor(transport: Transport) {
    this.rank = transport.rank;
    this.size = transport.size;
    this.chunkBytes = transport.chunkBytes;
    invariant(CREDIT_WINDOW_BYTES % this.chunkBytes === 0, 'a window of credit is a number of chunks');
    this.#transport = transport;
    transport.onMessage((header, payload) => this.#receive(header, payload));
  }

  /** Starts an operation whose streams are complete, and delivers what came for it before. */
  begin(operation: Operation): void {
    const lost =
      this.#closed ?? operation.concerned.map((rank) => this.#lost.get(rank)).find((error) => error);
    if (lost !== undefined) {
      operation.fail(lost);
      return;
    }
    let group = this.#operations.get(operation.group);
    if (group === undefined) {
      group = new Map();
      this.#operations.set(operation.group, group);
    }
    group.set(operation.sequence, operation);
    for (const stream of operation.outgoing) this.#outbox(stream.peer).streams.push({ operation, stream });
    const end = () => this.#end(operation);
    operation.finished.then(end, end);
    operation.begin();
    for (const { header, payload } of this.#takeEarly(operation)) operation.handle(header, payload);
  }

  control(to: number, header: Omit<MessageHeader, 'from'>): void {
    this.#outbox(to).control.push({ ...header, from: this.rank });
    this.wake(to);
  }

  wake(peer: number): void {
    const outbox = this.#outbox(peer);
    if (outbox.sending) return;
    outbox.sending = true;
    this.#drain(peer, outbox).catch((error: unknown) => this.peerLost(peer, sendError(peer, error)));
  }

  /** Fails every operation, now and later, that `rank` takes part in. */
  peerLost(rank: number, error: SluiceError): void {
    if (!this.#lost.has(rank)) this.#lost.set(rank, error);
    for (const group of this.#operations.values()) {
      for (const operation of group.values()) if (operation.concerned.includes(rank)) operation.fail(error);
    }
  }

  /** Fails what is under way and closes the transport. */
  async close(error?: SluiceError): Promise<void> {
    this.#closed ??=
      error ?? new SluiceError('SLUICE_E_WORKER_LOST', `Rank ${this.rank} closed its connections.`);
    for (const group of this.#operations.values()) {
      for (const operation of group.values()) operation.fail(this.#closed);
    }
    await this.#transport.close();
  }

  /** Operations under way, oldest first. */
  get operations(): Operation[] {
    return [...this.#operations.values()]
      .flatMap((group) => [...group.values()])
      .sort((a, b) => b.ageMs - a.ageMs);
  }

  /** Messages and bytes held for operations that have not begun; for tests of the bound. */
  get early(): { messages: number; bytes: number } {
    let messages = 0;
    let bytes = 0;
    for (const load of this.#earlyLoad.values()) {
      messages += load.messages;
      bytes += load.bytes;
    }
    return { messages, bytes };
  }

  async #drain(peer: number, outbox: Outbox): Promise<void> {
    while (this.#closed === undefined && !this.#lost.has(peer)) {
      const control = outbox.control.shift();
      if (control !== undefined) {
        await this.#transport.send(peer, control);
        continue;
      }
      const ready = outbox.streams.filter(
        ({ operation, stream }) =>
          operation.running && stream.sent < Math.min(stream.available, stream.granted),
      );
      // A few numbers that all wait for do not wait behind what is sent beside training, however long that is.
      const next = ready.find(({ stream }) => stream.source.length <= EAGER_BYTES) ?? ready[0];
      if (next === undefined) break;
      await this.#sendChunk(outbox, next.operation, next.stream);
    }
    // In the same turn as the last look, so that no call to wake falls between.
    outbox.sending = false;
  }

  async #sendChunk(outbox: Outbox, operation: Operation, stream: OutgoingStream): Promise<void> {
    const start = stream.sent;
    // Whole chunks only, as far as they exist: the receiver tells repeated ones by their offset.
    const end = Math.min(start + this.chunkBytes, stream.source.length);
    const header: MessageHeader = {
      kind: 'data',
      operation: operation.name,
      dataType: operation.dataType,
      phase: stream.phase,
      group: operation.group,
      sequence: operation.sequence,
      from: this.rank,
      offset: start,
      total: stream.source.length,
    };
    const bytes = stream.source.subarray(start, end);
    await this.#transport.send(stream.peer, header, stream.copy ? bytes.slice() : bytes);
    operation.sent(stream, end - start);
    if (stream.sent === stream.source.length) {
      const index = outbox.streams.findIndex((entry) => entry.stream === stream);
      if (index >= 0) outbox.streams.splice(index, 1);
    }
  }

  #receive(header: MessageHeader, payload: Payload | undefined): void {
    const operation = this.#operations.get(header.group)?.get(header.sequence);
    if (operation !== undefined) {
      operation.handle(header, payload);
      return;
    }
    if (this.#closed !== undefined || this.#ended.get(header.group)?.has(header.sequence)) {
      payload?.release();
      return;
    }
    this.#keepEarly(header, payload);
  }

  #keepEarly(header: MessageHeader, payload: Payload | undefined): void {
    const load = this.#earlyLoad.get(header.from) ?? { messages: 0, bytes: 0 };
    const bytes = payload?.byteLength ?? 0;
    if (
      bytes > EAGER_BYTES ||
      load.messages + 1 > MAX_EARLY_MESSAGES ||
      load.bytes + bytes > MAX_EARLY_BYTES
    ) {
      payload?.release();
      this.peerLost(
        header.from,
        new SluiceError(
          'SLUICE_E_COLLECTIVE_MISMATCH',
          `Rank ${header.from} sent ${bytes} bytes for ${header.operation} ${header.sequence}, which rank ${this.rank} has not begun, beyond what may be kept (${load.messages} messages, ${load.bytes} bytes).`,
          { details: { peer: header.from } },
        ),
      );
      return;
    }
    this.#earlyLoad.set(header.from, { messages: load.messages + 1, bytes: load.bytes + bytes });
    const key = `${header.group}:${header.sequence}`;
    const messages = this.#early.get(key);
    const message = { header, payload: payload?.keep() };
    if (messages === undefined) this.#early.set(key, [message]);
    else messages.push(message);
  }

  #takeEarly(operation: Operation): EarlyMessage[] {
    const key = `${operation.group}:${operation.sequence}`;
    const messages = this.#early.get(key) ?? [];
    this.#early.delete(key);
    for (const { header, payload } of messages) {
      const load = this.#earlyLoad.get(header.from)!;
      load.messages -= 1;
      load.bytes -= payload?.byteLength ?? 0;
    }
    return messages;
  }

  #end(operation: Operation): void {
    this.#operations.get(operation.group)?.delete(operation.sequence);
    let ended = this.#ended.get(operation.group);
    if (ended === undefined) {
      ended = new EndedSequences();
      this.#ended.set(operation.group, ended);
    }
    ended.add(operation.sequence);
    for (const { peer } of operation.outgoing) {
      const outbox = this.#outbox(peer);
      const kept = outbox.streams.filter((entry) => entry.operation !== operation);
      outbox.streams.splice(0, outbox.streams.length, ...kept);
    }
  }

  #outbox(peer: number): Outbox {
    let outbox = this.#outboxes.get(peer);
    if (outbox === undefined) {
      outbox = { control: [], streams: [], sending: false };
      this.#outboxes.set(peer, outbox);
    }
    return outbox;
  }
}

/** Which operations of a group are over: all before `#next`, and a few after it. */
class EndedSequences {
  #next = 0;
  readonly #after = new Set<number>();

  add(sequence: number): void {
    this.#after.add(sequence);
    while (this.#after.delete(this.#next)) this.#next += 1;
  }

  has(sequence: number): boolean {
    return sequence < this.#next || this.#after.has(sequence);
  }
}

function sendError(peer: number, error: unknown): SluiceError {
  return new SluiceError('SLUICE_E_WORKER_LOST', `Cannot send to rank ${peer}: ${String(error)}.`, {
    details: { peer },
    cause: error,
  });
}
