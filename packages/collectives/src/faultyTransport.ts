/** A transport that misbehaves on purpose, for tests: it delays, drops, duplicates, or cuts the way to a peer. */

import { type RandomKey, randomKey, randomUniform } from '@sluice/core';
import type { MessageHandler, Transport } from './transport.ts';
import type { MessageHeader } from './wire.ts';

export interface Faults {
  readonly seed: number;
  /** Longest delay of a message, ms. Delays differ, so messages overtake each other. */
  readonly maxDelayMs?: number;
  /** Probability that a message is sent a second time. */
  readonly duplicate?: number;
  /** Probability that a message is not sent. */
  readonly drop?: number;
  /** Whether this very message is dropped; for faults at a chosen place. */
  readonly dropWhen?: (to: number, header: MessageHeader) => boolean;
}

export class FaultyTransport implements Transport {
  readonly rank: number;
  readonly size: number;
  readonly chunkBytes: number;
  readonly #inner: Transport;
  readonly #faults: Faults;
  readonly #key: RandomKey;
  readonly #cut = new Set<number>();
  readonly #pending = new Map<number, Promise<void>>();
  #counter = 0;
  #closed = false;

  constructor(inner: Transport, faults: Faults) {
    this.rank = inner.rank;
    this.size = inner.size;
    this.chunkBytes = inner.chunkBytes;
    this.#inner = inner;
    this.#faults = faults;
    this.#key = randomKey(faults.seed, 'faulty-transport', inner.rank);
  }

  /** From now on nothing reaches `peer`. */
  cut(peer: number): void {
    this.#cut.add(peer);
  }

  async send(to: number, header: MessageHeader, payload?: Uint8Array): Promise<void> {
    const { drop = 0, duplicate = 0, maxDelayMs = 0, dropWhen } = this.#faults;
    if (this.#cut.has(to) || this.#draw() < drop || dropWhen?.(to, header)) return;
    const copies = this.#draw() < duplicate ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const delayMs = Math.floor(this.#draw() * (maxDelayMs + 1));
      if (delayMs === 0) this.#forward(to, header, payload);
      else setTimeout(() => this.#forward(to, header, payload), delayMs);
    }
  }

  onMessage(handler: MessageHandler): void {
    this.#inner.onMessage(handler);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#pending.values());
    await this.#inner.close();
  }

  /** Sends in turn, for the inner transport takes one message at a time for each peer. */
  #forward(to: number, header: MessageHeader, payload: Uint8Array | undefined): void {
    if (this.#closed || this.#cut.has(to)) return;
    const before = this.#pending.get(to) ?? Promise.resolve();
    this.#pending.set(
      to,
      before.then(() => this.#inner.send(to, header, payload)),
    );
  }

  #draw(): number {
    return randomUniform(this.#key, this.#counter++);
  }
}
