/** Long series made short for plotting, so that what strikes the eye is still there. */

/**
 * Indices, ascending, of at most about `limit` values to plot: the first, the last, and the smallest and largest of
 * each of the equal stretches of the series. No extreme is lost; values that are not finite are passed over.
 */
export function selectExtremes(values: ArrayLike<number>, limit: number): number[] {
  if (values.length <= limit) return Array.from(values, (_, index) => index);
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
export function smooth(values: ArrayLike<number>, steps: number): Float64Array {
  const smoothed = movingAverage(values, steps);
  const fromRight = movingAverage(reversed(values), steps).reverse();
  for (let i = 0; i < smoothed.length; i++) {
    const left = smoothed[i]!;
    const right = fromRight[i]!;
    smoothed[i] = Number.isNaN(left) ? right : Number.isNaN(right) ? left : (left + right) / 2;
  }
  return smoothed;
}

function reversed(values: ArrayLike<number>): Float64Array {
  const backwards = new Float64Array(values.length);
  for (let i = 0; i < backwards.length; i++) backwards[i] = values[backwards.length - 1 - i]!;
  return backwards;
}

/** Exponential moving average without the bias of its start; NaN before the first finite value. */
export function movingAverage(values: ArrayLike<number>, steps: number): Float64Array {
  const keep = 1 - 1 / Math.max(1, steps);
  const averages = new Float64Array(values.length);
  let sum = 0;
  let weight = 0;
  for (let i = 0; i < averages.length; i++) {
    const value = values[i]!;
    if (Number.isFinite(value)) {
      sum = keep * sum + (1 - keep) * value;
      weight = keep * weight + (1 - keep);
    }
    averages[i] = weight > 0 ? sum / weight : Number.NaN;
  }
  return averages;
}

/**
 * Keeps a bounded number of evenly spaced items of a stream of unknown length, always the newest among them: when
 * full, every second one goes and from then on every second one is taken.
 */
export class Thinner<T> {
  readonly #limit: number;
  #kept: { readonly index: number; readonly item: T }[] = [];
  #stride = 1;
  #seen = 0;
  #last: { readonly index: number; readonly item: T } | undefined;

  constructor(limit: number) {
    this.#limit = Math.max(2, limit);
  }

  add(item: T): void {
    const entry = { index: this.#seen++, item };
    this.#last = entry;
    if (entry.index % this.#stride !== 0) return;
    if (this.#kept.length === this.#limit) {
      this.#stride *= 2;
      this.#kept = this.#kept.filter(({ index }) => index % this.#stride === 0);
      if (entry.index % this.#stride !== 0) return;
    }
    this.#kept.push(entry);
  }

  /** Forgets the items from the first on that is not to be kept. */
  cut(isKept: (item: T) => boolean): void {
    const end = this.#kept.findIndex(({ item }) => !isKept(item));
    if (end >= 0) this.#kept.length = end;
    if (this.#last === undefined || isKept(this.#last.item)) return;
    this.#last = this.#kept.at(-1);
    this.#seen = (this.#last?.index ?? -1) + 1;
  }

  get items(): T[] {
    const items = this.#kept.map(({ item }) => item);
    if (this.#last !== undefined && this.#kept.at(-1)?.index !== this.#last.index)
      items.push(this.#last.item);
    return items;
  }
}
