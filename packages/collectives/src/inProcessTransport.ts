/** Ranks of a world within one process, for tests: messages are handed over by reference, asynchronously. */

import { invariant } from '@sluice/core';
import { MemoryPayload, type MessageHandler, type Transport } from './transport.ts';
import type { MessageHeader } from './wire.ts';

class InProcessTransport implements Transport {
  readonly rank: number;
  readonly size: number;
  readonly chunkBytes: number;
  readonly #world: readonly InProcessTransport[];
  #handler: MessageHandler | undefined;
  #early: [MessageHeader, Uint8Array | undefined][] = [];
  #closed = false;

  constructor(rank: number, size: number, chunkBytes: number, world: readonly InProcessTransport[]) {
    this.rank = rank;
    this.size = size;
    this.chunkBytes = chunkBytes;
    this.#world = world;
  }

  async send(to: number, header: MessageHeader, payload?: Uint8Array): Promise<void> {
    const peer = this.#world[to];
    invariant(peer !== undefined && to !== this.rank, `rank ${this.rank} cannot send to rank ${to}`);
    // Another turn of the loop, so that sender and receiver interleave as they would over a socket.
    await new Promise(setImmediate);
    if (!this.#closed) peer.#deliver(header, payload);
  }

  onMessage(handler: MessageHandler): void {
    this.#handler = handler;
    for (const [header, payload] of this.#early.splice(0)) this.#deliver(header, payload);
  }

  #deliver(header: MessageHeader, payload: Uint8Array | undefined): void {
    if (this.#closed) return;
    if (this.#handler === undefined) this.#early.push([header, payload]);
    else this.#handler(header, payload && new MemoryPayload(payload));
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}

/**
 * One transport for each rank of a world that lives in this process.
 * @param chunkBytes largest payload of a message; small values exercise the cutting into chunks
 */
export function inProcessWorld(size: number, chunkBytes = 1 << 20): Transport[] {
  const world: InProcessTransport[] = [];
  for (let rank = 0; rank < size; rank++) world.push(new InProcessTransport(rank, size, chunkBytes, world));
  return world;
}
