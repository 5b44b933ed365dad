/**
 * The library encodes on threads of its own and tells the result in a later turn of the event loop. Who wants it at once
 * lets a worker thread await it, and waits for that thread.
 */

import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { SluiceError } from '@sluice/core';
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
  /** Numbers that both threads see, at the places of `SYNC`. */
  readonly shared: Int32Array;
}

export const SYNC = {
  /** What has become of the thread. */
  state: 0,
  /** Counted up with every reply, and once more when the thread ends. */
  replies: 1,
} as const;

export const LOADED = 1;
export const ENDED = 2;

/** A thread that has not loaded after so long will not, ms. */
const START_LIMIT_MS = 30_000;

/** The one thread of this process, started when it is first needed. It does not keep the process alive. */
let current: SyncChannel | undefined;
let tokenizers = 0;

export class SyncEncoder {
  readonly #key = tokenizers++;
  readonly #json: AnyTokenizerJson;
  /** The thread that knows the tokenizer. */
  #knownBy: SyncChannel | undefined;

  constructor(json: AnyTokenizerJson) {
    this.#json = json;
  }

  /**
   * @throws RefusedFile; SluiceError SLUICE_E_TOKENIZER_LIBRARY when the thread does not start, or ends; Error with the
   *   library's reason
   */
  encode(variant: Variant, text: string): number[] {
    if (current !== undefined && hasEnded(current)) current = undefined;
    current ??= startThread();
    const request: SyncRequest = { key: this.#key, variant, text };
    const reply = ask(current, this.#knownBy === current ? request : { ...request, json: this.#json });
    this.#knownBy = current;
    if ('error' in reply) throw reply.refused ? new RefusedFile(reply.error) : new Error(reply.error);
    return reply.ids;
  }
}

/** @throws SluiceError SLUICE_E_TOKENIZER_LIBRARY when the thread ends instead of replying */
export function ask(channel: SyncChannel, request: SyncRequest): SyncReply {
  const { port, shared } = channel;
  const before = Atomics.load(shared, SYNC.replies);
  if (!hasEnded(channel)) {
    port.postMessage(request);
    Atomics.wait(shared, SYNC.replies, before);
    const reply = receiveMessageOnPort(port);
    if (reply !== undefined) return reply.message as SyncReply;
  }
  throw threadError('has ended');
}

/** @throws SluiceError SLUICE_E_TOKENIZER_LIBRARY when the thread has not loaded within the limit */
export function startThread(
  entry = new URL('./encodeThread.js', import.meta.url),
  limitMs = START_LIMIT_MS,
): SyncChannel {
  const { port1: port, port2 } = new MessageChannel();
  const shared = new Int32Array(new SharedArrayBuffer(8));
  const workerData: SyncChannel = { port: port2, shared };
  const worker = new Worker(entry, { workerData, transferList: [port2] });
  worker.unref();
  // It comes only once this thread waits no more; `SYNC` has told of it by then.
  worker.on('error', () => {});
  Atomics.wait(shared, SYNC.state, 0, limitMs);
  if (Atomics.load(shared, SYNC.state) === LOADED) return { port, shared };
  void worker.terminate();
  throw threadError(`did not start within ${limitMs / 1000} s`);
}

function hasEnded({ shared }: SyncChannel): boolean {
  return Atomics.load(shared, SYNC.state) === ENDED;
}

function threadError(problem: string): SluiceError {
  return new SluiceError(
    'SLUICE_E_TOKENIZER_LIBRARY',
    `The thread that runs Hugging Face's tokenizers library ${problem}.`,
  );
}
