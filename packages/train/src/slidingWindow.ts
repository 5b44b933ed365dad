/** The newest values of a signal, and the median of them: kept sorted beside, so that a further value costs no look at all of them. */

export class SlidingWindow {
  readonly #values: number[] = [];
  readonly #sorted: number[] = [];

  /** @param values oldest first; none may be NaN */
  constructor(values: Iterable<number> = []) {
    for (const value of values) this.#put(value);
  }

  get length(): number {
    return this.#values.length;
  }

  /** Oldest first. */
  get values(): readonly number[] {
    return this.#values;
  }

  /** Of an even number of values, the mean of the two in the middle; there must be one at least. */
  get median(): number {
    const middle = this.#sorted.length >> 1;
    const upper = this.#sorted[middle]!;
    return this.#sorted.length % 2 === 1 ? upper : (this.#sorted[middle - 1]! + upper) / 2;
  }

  /** Takes in a value, not NaN, and drops the oldest ones beyond `limit`. */
  push(value: number, limit: number): void {
    this.#put(value);
    while (this.#values.length > limit) this.#sorted.splice(this.#placeOf(this.#values.shift()!), 1);
  }

  #put(value: number): void {
    this.#values.push(value);
    this.#sorted.splice(this.#placeOf(value), 0, value);
  }

  /** The first place in the sorted values that holds no smaller one. */
  #placeOf(value: number): number {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#sorted[middle]! < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
