/** Messages that leave in order over a ZeroMQ socket, which takes one at a time. */
export class Outbox<Frames> {
  readonly #send: (message: Frames) => Promise<void>;
  readonly #isDropped: boolean;
  readonly #waiting: Frames[] = [];
  #sending: Promise<void> | undefined;

  /**
   * @param send hands one message to the socket
   * @param onFailure what a message that the socket refuses means: it is dropped, or nothing more is sent
   */
  constructor(send: (message: Frames) => Promise<void>, onFailure: 'drop' | 'end' = 'end') {
    this.#send = send;
    this.#isDropped = onFailure === 'drop';
  }

  push(message: Frames): void {
    this.#waiting.push(message);
    this.#sending ??= this.#drain();
  }

  /** Whether the socket has taken all messages. */
  get isEmpty(): boolean {
    return this.#sending === undefined;
  }

  /** Resolves when it has, as far as they are there by then. */
  async emptied(): Promise<void> {
    await this.#sending;
  }

  async #drain(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      try {
        await this.#send(next);
      } catch (error) {
        if (!this.#isDropped) throw error;
      }
    }
    this.#sending = undefined;
  }
}
