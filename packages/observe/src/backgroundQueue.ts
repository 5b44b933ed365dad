/** Telling somebody elsewhere in the background, one thing after another. Whoever does not listen holds up nothing. */

import { setTimeout as delay } from 'node:timers/promises';

export interface QueueOptions<Item> {
  /** Items that wait; of more the oldest are dropped. */
  readonly most: number;
  /** @returns why an item could not be brought, in a sentence */
  readonly bring: (item: Item) => Promise<string | undefined>;
  /** Told of the first item that could not be brought, and why. */
  readonly warn: (item: Item, problem: string) => void;
}

export class BackgroundQueue<Item> {
  readonly #options: QueueOptions<Item>;
  readonly #waiting: Item[] = [];
  #working: Promise<void> | undefined;
  #hasWarned = false;

  constructor(options: QueueOptions<Item>) {
    this.#options = options;
  }

  /** Returns at once. */
  add(item: Item): void {
    this.#waiting.push(item);
    if (this.#waiting.length > this.#options.most) this.#waiting.shift();
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
    });
  }

  /** Waits for what is on its way, but not longer than that. */
  async close(limitMs: number): Promise<void> {
    const limit = new AbortController();
    await Promise.race([
      this.#working,
      delay(limitMs, undefined, { signal: limit.signal, ref: false }).catch(() => {}),
    ]);
    limit.abort();
    this.#waiting.length = 0;
  }

  async #work(): Promise<void> {
    const { bring, warn } = this.#options;
    for (let item = this.#waiting.shift(); item !== undefined; item = this.#waiting.shift()) {
      const problem = await bring(item);
      if (problem === undefined || this.#hasWarned) continue;
      this.#hasWarned = true;
      warn(item, problem);
    }
  }
}
