/** Collectives on flat memory. What lies in a device's memory travels by way of the host's. */

import {
  type ElementRange,
  type FloatWire,
  type Group,
  type Pending,
  sharedFloat32,
} from '@sluice/collectives';
import { type Floats, flatMemory } from '@sluice/engine';

export class FlatTransport {
  readonly #group: Group;
  /** Memory of the host for what lies on a device, by where it begins there: stages follow each other without gaps between slices. */
  readonly #staged = new Map<number, Float32Array>();

  constructor(group: Group) {
    this.#group = group;
  }

  /** As `Group.reduceScatter`, of ranges that follow each other. */
  reduceScatter(values: Floats, ranges: readonly ElementRange[], wire: FloatWire): Pending {
    if (values instanceof Float32Array) return this.#group.reduceScatter(values, ranges, wire);
    const { staged, within } = this.#stage(values, ranges);
    const pending = this.#group.reduceScatter(staged, within, wire);
    return once(pending, () => copyBack(values, staged, ranges, [this.#group.rank]));
  }

  /** As `Group.allGather`, of ranges that follow each other. */
  allGather(values: Floats, ranges: readonly ElementRange[]): Pending {
    if (values instanceof Float32Array) return this.#group.allGather(values, ranges);
    const { staged, within } = this.#stage(values, ranges);
    const others = [...ranges.keys()].filter((rank) => rank !== this.#group.rank);
    return once(this.#group.allGather(staged, within), () => copyBack(values, staged, ranges, others));
  }

  #stage(values: Floats, ranges: readonly ElementRange[]) {
    const [{ start }, { end }] = [ranges[0]!, ranges.at(-1)!];
    const staged = this.#staged.get(start) ?? sharedFloat32(end - start);
    this.#staged.set(start, staged);
    flatMemory().readInto(values.subarray(start, end), staged);
    const within = ranges.map((range) => ({ start: range.start - start, end: range.end - start }));
    return { staged, within };
  }
}

function copyBack(
  values: Floats,
  staged: Float32Array,
  ranges: readonly ElementRange[],
  ranks: readonly number[],
): void {
  const { start: first } = ranges[0]!;
  for (const rank of ranks) {
    const { start, end } = ranges[rank]!;
    flatMemory().write(values.subarray(start, end), staged.subarray(start - first, end - first));
  }
}

/** Waiting for what is pending also does `arrive`, the first time. */
function once(pending: Pending, arrive: () => void): Pending {
  let isThere = false;
  return {
    get done() {
      return pending.done;
    },
    wait() {
      pending.wait();
      if (isThere) return;
      isThere = true;
      arrive();
    },
  };
}
