/**
 * The few words of shared memory through which the main thread and the communication thread see each other without
 * messages: the state of each operation, the communication thread's pulse, and what the main thread is doing.
 */

/** Operations that may be launched and not yet waited for. */
export const OPERATION_SLOTS = 4096;

const TEXT_BYTES = 256;
const WORDS = { pulse: 0, version: 1, textLength: 2, closed: 3, slots: 4 } as const;

export const PENDING = 0;
export const DONE = 1;
export const FAILED = 2;

export class SharedState {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #text: Uint8Array;

  constructor(memory = new SharedArrayBuffer((WORDS.slots + OPERATION_SLOTS) * 4 + TEXT_BYTES)) {
    this.memory = memory;
    this.#words = new Int32Array(memory, 0, WORDS.slots + OPERATION_SLOTS);
    this.#text = new Uint8Array(memory, this.#words.byteLength, TEXT_BYTES);
  }

  reset(slot: number): void {
    Atomics.store(this.#words, WORDS.slots + slot, PENDING);
  }

  state(slot: number): number {
    return Atomics.load(this.#words, WORDS.slots + slot);
  }

  settle(slot: number, state: typeof DONE | typeof FAILED): void {
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
