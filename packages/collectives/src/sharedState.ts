/**
 * The few words of shared memory through which the main thread and the communication thread see each other without
 * messages: the state of each operation and when its peers had begun it, how many peers are lost, the communication
 * thread's pulse, and what the main thread is doing.
 */

import { monotonicMs } from './blockedTime.ts';

/** Operations that may be launched and not yet waited for. */
export const OPERATION_SLOTS = 4096;

const TEXT_BYTES = 256;
const WORDS = { pulse: 0, version: 1, textLength: 2, closed: 3, lost: 4, slots: 6 } as const;
/** Of each slot, when the peers had begun its operation, and when it ended. */
const TIMES_BYTES = 2 * OPERATION_SLOTS * 8;

export const PENDING = 0;
export const DONE = 1;
export const FAILED = 2;

export class SharedState {
  readonly memory: SharedArrayBuffer;
  readonly #times: Float64Array;
  readonly #words: Int32Array;
  readonly #text: Uint8Array;

  constructor(
    memory = new SharedArrayBuffer(TIMES_BYTES + (WORDS.slots + OPERATION_SLOTS) * 4 + TEXT_BYTES),
  ) {
    this.memory = memory;
    this.#times = new Float64Array(memory, 0, 2 * OPERATION_SLOTS);
    this.#words = new Int32Array(memory, TIMES_BYTES, WORDS.slots + OPERATION_SLOTS);
    this.#text = new Uint8Array(memory, TIMES_BYTES + this.#words.byteLength, TEXT_BYTES);
  }

  reset(slot: number): void {
    this.#times[slot] = Number.POSITIVE_INFINITY;
    Atomics.store(this.#words, WORDS.slots + slot, PENDING);
  }

  state(slot: number): number {
    return Atomics.load(this.#words, WORDS.slots + slot);
  }

  /** When the last peer of a settled operation had begun it, monotonic ms; infinite where one never did. */
  begun(slot: number): number {
    return this.#times[slot]!;
  }

  /** When a settled operation ended, monotonic ms. */
  ended(slot: number): number {
    return this.#times[OPERATION_SLOTS + slot]!;
  }

  settle(slot: number, state: typeof DONE | typeof FAILED, begun = Number.POSITIVE_INFINITY): void {
    this.#times[slot] = begun;
    this.#times[OPERATION_SLOTS + slot] = monotonicMs();
    Atomics.store(this.#words, WORDS.slots + slot, state);
    Atomics.notify(this.#words, WORDS.slots + slot);
  }

  /** Blocks until the operation has settled or the time is over. */
  block(slot: number, limitMs: number): void {
    Atomics.wait(this.#words, WORDS.slots + slot, PENDING, limitMs);
  }

  /** The communication thread is alive. */
  beat(): void {
    Atomics.add(this.#words, WORDS.pulse, 1);
  }

  get pulse(): number {
    return Atomics.load(this.#words, WORDS.pulse);
  }

  /** One more peer is lost; why has been posted before. */
  lose(): void {
    Atomics.add(this.#words, WORDS.lost, 1);
  }

  get lost(): number {
    return Atomics.load(this.#words, WORDS.lost);
  }

  /** All sockets are closed. */
  close(): void {
    Atomics.store(this.#words, WORDS.closed, 1);
    Atomics.notify(this.#words, WORDS.closed);
  }

  /** Blocks until all sockets are closed or the time is over. */
  blockUntilClosed(limitMs: number): void {
    Atomics.wait(this.#words, WORDS.closed, 0, limitMs);
  }

  /** Writes what the main thread is doing, cut to what fits. The version is odd while the text is being written. */
  writeActivity(text: string): void {
    Atomics.add(this.#words, WORDS.version, 1);
    const { written } = new TextEncoder().encodeInto(text, this.#text);
    Atomics.store(this.#words, WORDS.textLength, written);
    Atomics.add(this.#words, WORDS.version, 1);
  }

  readActivity(): string {
    for (let attempt = 0; attempt < 100; attempt++) {
      const version = Atomics.load(this.#words, WORDS.version);
      const bytes = this.#text.slice(0, Atomics.load(this.#words, WORDS.textLength));
      if (version % 2 === 0 && Atomics.load(this.#words, WORDS.version) === version) {
        return new TextDecoder().decode(bytes);
      }
    }
    return 'changing';
  }
}
