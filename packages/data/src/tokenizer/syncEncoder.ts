/**
 * The library encodes on threads of its own and tells the result in a later turn of the event loop. Who wants it at once
 * lets a worker thread await it, and waits for that thread.
 */

import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import type { AnyTokenizerJson } from './json.ts';
import { RefusedFile } from './libraryEncoder.ts';
import type { Variant } from './variants.ts';

export interface SyncRequest {
  /** Which tokenizer. */
  readonly key: number;
  /** Its contents, the first time. */
  readonly json?: AnyTokenizerJson;
  readonly variant: Variant;
  readonly text: string;
}

export type SyncReply = { readonly ids: number[] } | { readonly error: string; readonly refused: boolean };

export interface SyncChannel {
  readonly port: MessagePort;
  /** One number, counted up with every reply. */
  readonly replies: Int32Array;
}

/** The one thread of this process, started when it is first needed. It does not keep the process alive. */
let channel: SyncChannel | undefined;
let tokenizers = 0;

export class SyncEncoder {
  readonly #key = tokenizers++;
  #json: AnyTokenizerJson | undefined;

  constructor(json: AnyTokenizerJson) {
    this.#json = json;
  }

  /** @throws RefusedFile, or Error with the library's reason */
  encode(variant: Variant, text: string): number[] {
    channel ??= startThread();
    const { port, replies } = channel;
    const before = Atomics.load(replies, 0);
    const request: SyncRequest = { key: this.#key, variant, text };
    port.postMessage(this.#json === undefined ? request : { ...request, json: this.#json });
    this.#json = undefined;
    Atomics.wait(replies, 0, before);
    const reply = receiveMessageOnPort(port)!.message as SyncReply;
    if ('error' in reply) throw reply.refused ? new RefusedFile(reply.error) : new Error(reply.error);
    return reply.ids;
  }
}

function startThread(): SyncChannel {
  const { port1: port, port2 } = new MessageChannel();
  const replies = new Int32Array(new SharedArrayBuffer(4));
  const workerData: SyncChannel = { port: port2, replies };
  const worker = new Worker(new URL('./encodeThread.js', import.meta.url), {
    workerData,
    transferList: [port2],
  });
  worker.unref();
  return { port, replies };
}
