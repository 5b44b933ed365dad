/** What a process group asks of the way between ranks. Implementations: in-process, ZeroMQ (ipc, tcp), faulty. */

import { copyInto } from '@sluice/engine/memory';
import type { MessageHeader } from './wire.ts';

/** Bytes that arrived. Read-only: they may be the sender's own memory. */
export interface Payload {
  readonly byteLength: number;
  /**
   * Bytes [start, start + length): a view of where they lie, or `scratch`, filled with them.
   * Valid until `release`, or until the scratch is used again.
   */
  view(start: number, length: number, scratch: Uint8Array): Uint8Array;
  /** Copies all of them to the start of `target`. */
  copyTo(target: Uint8Array): void;
  /** The same bytes, for a receiver that cannot use them yet; takes the place of this one. */
  keep(): Payload;
  /** Says that the bytes are needed no more, so that their place can be used again. */
  release(): void;
}

export type MessageHandler = (header: MessageHeader, payload: Payload | undefined) => void;

/**
 * Carries messages between ranks, in order for each pair, or not at all. A sender may offer a `payload` that it
 * changes only after the receiver confirmed it, so implementations need not copy.
 */
export interface Transport {
  readonly rank: number;
  readonly size: number;
  /** Largest payload of one message, bytes. The same on all ranks. */
  readonly chunkBytes: number;
  /** Resolves when the message is accepted; a full queue makes it wait. One call at a time for each peer. */
  send(to: number, header: MessageHeader, payload?: Uint8Array): Promise<void>;
  /** Names the one receiver of all messages. Messages from before are kept for it. */
  onMessage(handler: MessageHandler): void;
  close(): Promise<void>;
}

/** A payload that lies in this process's memory. */
export class MemoryPayload implements Payload {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get byteLength(): number {
    return this.#bytes.length;
  }

  view(start: number, length: number): Uint8Array {
    return this.#bytes.subarray(start, start + length);
  }

  copyTo(target: Uint8Array): void {
    copyInto(target, this.#bytes);
  }

  keep(): Payload {
    return this;
  }

  release(): void {}
}
