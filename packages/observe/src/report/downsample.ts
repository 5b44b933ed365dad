/** Long series made short for plotting, so that what strikes the eye is still there. */

/**
 * Indices, ascending, of at most about `limit` values to plot: the first, the last, and the smallest and largest of
 * each of the equal stretches of the series. No extreme is lost; values that are not finite are passed over.
 */
export function selectExtremes(values: readonly number[], limit: number): number[] {
  if (values.length <= limit) return values.map((_, index) => index);
  const buckets = Math.max(1, Math.floor((limit - 2) / 2));
  const chosen = new Set<number>([0, values.length - 1]);
  for (let bucket = 0; bucket < buckets; bucket++) {
    const start = Math.floor((bucket * values.length) / buckets);
    const end = Math.floor(((bucket + 1) * values.length) / buckets);
    let low = -1;
    let high = -1;
    for (let i = start; i < end; i++) {
      const value = values[i]!;
      if (!Number.isFinite(value)) continue;
      if (low < 0 || value < values[low]!) low = i;
      if (high < 0 || value > values[high]!) high = i;
    }
    if (low >= 0) chosen.add(low).add(high);
  }
  return [...chosen].sort((a, b) => a - b);
}

/**
 * A smooth curve through a series: the mean of an exponential moving average from the left and one from the right,
 * each with a memory of about `steps` values, so that the curve does not lag behind. Values that are not finite are
 * bridged.
 */
export function smooth(values: readonly number[], steps: number): number[] {
  const fromLeft = movingAverage(values, steps);
  const fromRight = movingAverage(values.toReversed(), steps).reverse();
  return fromLeft.map((left, index) => {
    const right = fromRight[index]!;
    if (Number.isNaN(left)) return right;
    return Number.isNaN(right) ? left : (left + right) / 2;
  });
}

/** Exponential moving average without the bias of its start; NaN before the first finite value. */
export function movingAverage(values: readonly number[], steps: number): number[] {
  const keep = 1 - 1 / Math.max(1, steps);
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    if (Number.isFinite(value)) {
      sum = keep * sum + (1 - keep) * value;
      weight = keep * weight + (1 - keep);
    }
    return weight > 0 ? sum / weight : Number.NaN;
  });
}

/**
 * Keeps a bounded number of evenly spaced items of a stream of unknown length, always the newest among them: when
 * full, every second one goes and from then on every second one is taken.
 */
export class Thinner<T> {
  readonly #limit: number;
  readonly #kept: { index: number; item: T }[] = [];
  #stride = 1;
  #seen = 0;
  #last: { index: number; item: T } | undefined;

  constructor(limit: number) {
    this.#limit = Math.max(2, limit);
  }

  add(item: T): void {
    const entry = { index: this.#seen++, item };
    this.#last = entry;
    if (entry.index % this.#stride !== 0) return;
    if (this.#kept.length === this.#limit) {
      this.#stride *= 2;
      const kept = this.#kept.filter(({ index }) => index % this.#stride === 0);
      this.#kept.splice(0, this.#kept.length, ...kept);
      if (entry.index % this.#stride !== 0) return;
    }
    this.#kept.push(entry);
  }

  get items(): T[] {
    const items = this.#kept.map(({ item }) => item);
    if (this.#last !== undefined && this.#kept.at(-1)?.index !== this.#last.index)
      items.push(this.#last.item);
    return items;
  }
}
