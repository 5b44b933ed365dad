/** Tells where the time of a step goes. Nothing that is trained depends on it. */
export class StopWatch {
  #start = 0;
  #last = 0;
  readonly #parts = new Map<string, number>();

  restart(): void {
    this.#start = performance.now();
    this.#last = this.#start;
    this.#parts.clear();
  }

  /** Counts the time since the last stop to `part`. */
  stop(part: string): void {
    const now = performance.now();
    this.#parts.set(part, (this.#parts.get(part) ?? 0) + (now - this.#last) / 1000);
    this.#last = now;
  }

  /** Seconds counted to `part` since the restart. */
  seconds(part: string): number {
    return this.#parts.get(part) ?? 0;
  }

  /** Seconds since the restart. */
  total(): number {
    return (performance.now() - this.#start) / 1000;
  }
}
