/**
 * Waits that a host has left to its device. The stream that computes waits for what other processes send, and the host goes on. A host
 * that waits for that stream afterwards would do so without end where these never send; so before it does, it follows the stream: to where
 * it waits, and then as whoever watches over the other processes waits for them.
 */

import type { Moment } from './moment.ts';

/** By how many launches the host may be ahead of a wait: a stream takes about a thousand, and then the driver blocks whoever launches. */
const MOST_AHEAD = 256;

interface LeftWait {
  /** Launches before it. */
  readonly launches: number;
  /** When the stream comes to it. */
  readonly reached: Moment;
  /** Blocks the host until what is waited for has come. @throws what ends that */
  readonly watch: () => void;
}

export class LeftWaits {
  /** In the order in which the stream comes to them. */
  readonly #waits: LeftWait[] = [];
  #launches = 0;

  add(reached: Moment, watch: () => void): void {
    this.#waits.push({ launches: this.#launches, reached, watch });
  }

  /** Blocks until the stream waits for nobody. @throws what a `watch` does, and again whenever it is called then */
  follow(): void {
    while (this.#waits.length > 0) this.#followFirst();
  }

  /** Counts a launch; blocks where too many have followed a wait. @throws as `follow` */
  countLaunch(): void {
    this.#launches++;
    while (this.#waits.length > 0 && this.#launches - this.#waits[0]!.launches > MOST_AHEAD)
      this.#followFirst();
  }

  #followFirst(): void {
    const { reached, watch } = this.#waits[0]!;
    // Until then it is the device's own work that takes its time, and nobody else's.
    reached.wait();
    watch();
    this.#waits.shift();
  }
}
