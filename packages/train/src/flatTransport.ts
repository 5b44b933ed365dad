/** Collectives on flat memory. What lies in a device's memory travels between devices, where they are linked, or by way of the host's. */

import {
  type ElementRange,
  type FloatWire,
  type Group,
  LEAST_HIERARCHICAL_BYTES,
  type Pending,
  sharedFloat32,
} from '@sluice/collectives';
import { type DeviceLink, type Floats, flatMemory, type Peers } from '@sluice/engine';

export class FlatTransport {
  readonly #group: Group;
  readonly #link: DeviceLink | undefined;
  /** Memory of the host for what lies on a device, by where that begins. */
  readonly #staged = new Map<number, Float32Array>();

  constructor(group: Group, link?: DeviceLink) {
    this.#group = group;
    this.#link = link;
  }

  /** As `Group.reduceScatter`, of ranges with nothing between them. */
  reduceScatter(values: Floats, ranges: readonly ElementRange[], wire: FloatWire): Pending {
    if (values instanceof Float32Array) return this.#group.reduceScatter(values, ranges, wire);
    if (this.#link) return this.#link.reduceScatter(this.#peersFor(ranges), values, ranges, wire);
    const { staged, within } = this.#stage(values, ranges, ranges);
    const pending = this.#group.reduceScatter(staged, within, wire);
    return once(pending, () => copyBack(values, staged, ranges, [this.#group.rank]));
  }

  /** As `Group.allGather`, of ranges with nothing between them. */
  allGather(values: Floats, ranges: readonly ElementRange[]): Pending {
    if (values instanceof Float32Array) return this.#group.allGather(values, ranges);
    if (this.#link) return this.#link.allGather(this.#peersFor(ranges), values, ranges);
    const { staged, within } = this.#stage(values, ranges, [ranges[this.#group.rank]!]);
    const others = [...ranges.keys()].filter((rank) => rank !== this.#group.rank);
    return once(this.#group.allGather(staged, within), () => copyBack(values, staged, ranges, others));
  }

  /** The group; what is short goes at once to all of it, as by way of the host. */
  #peersFor(ranges: readonly ElementRange[]): Peers {
    const { ranks, rank, grid } = this.#group;
    const bytes = ranges.reduce((sum, { start, end }) => sum + 4 * (end - start), 0);
    return bytes < LEAST_HIERARCHICAL_BYTES ? { ranks, rank } : { ranks, rank, grid };
  }

  /** @param sent what of the ranges is needed on the host */
  #stage(values: Floats, ranges: readonly ElementRange[], sent: readonly ElementRange[]) {
    const first = beginOf(ranges);
    const staged =
      this.#staged.get(first) ?? sharedFloat32(Math.max(...ranges.map(({ end }) => end)) - first);
    this.#staged.set(first, staged);
    for (const { start, end } of sent)
      flatMemory().readInto(values.subarray(start, end), staged.subarray(start - first, end - first));
    const within = ranges.map(({ start, end }) => ({ start: start - first, end: end - first }));
    return { staged, within };
  }
}

function copyBack(
  values: Floats,
  staged: Float32Array,
  ranges: readonly ElementRange[],
  ranks: readonly number[],
): void {
  const first = beginOf(ranges);
  for (const rank of ranks) {
    const { start, end } = ranges[rank]!;
    flatMemory().write(values.subarray(start, end), staged.subarray(start - first, end - first));
  }
}

function beginOf(ranges: readonly ElementRange[]): number {
  return Math.min(...ranges.map(({ start }) => start));
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
