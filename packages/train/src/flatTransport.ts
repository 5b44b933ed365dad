/** Collectives on flat memory. What lies in a device's memory travels between devices, where they are linked, or by way of the host's. */

import {
  type CollectiveArray,
  type ElementRange,
  type FloatWire,
  type Group,
  LEAST_HIERARCHICAL_BYTES,
  type Pending,
  sharedFloat32,
} from '@sluice/collectives';
import { type DeviceLink, type Floats, flatMemory, type Peers, type RoundedMemory } from '@sluice/engine';

/** How what lies on a device comes to memory of the host, and back. */
interface Staging<Staged extends CollectiveArray> {
  /** Elements that one value has there. */
  readonly width: number;
  /** Bytes of a value. */
  readonly bytes: number;
  make(values: number): Staged;
  toHost(values: Floats, staged: Staged): void;
  toDevice(values: Floats, staged: Staged): void;
}

const FLOATS: Staging<Float32Array> = {
  width: 1,
  bytes: 4,
  make: sharedFloat32,
  toHost: (values, staged) => flatMemory().readInto(values, staged),
  toDevice: (values, staged) => flatMemory().write(values, staged),
};

/** Values in bf16 as they are, which no array of collectives is of. */
function halves({ readBytes, writeBytes }: RoundedMemory): Staging<Uint8Array> {
  return {
    width: 2,
    bytes: 2,
    make: (values) => new Uint8Array(new SharedArrayBuffer(2 * values)),
    toHost: readBytes,
    toDevice: writeBytes,
  };
}

export class FlatTransport {
  readonly #group: Group;
  readonly #link: DeviceLink | undefined;
  readonly #staging: Staging<CollectiveArray>;
  /** Memory of the host for what lies on a device, by where that begins. */
  readonly #staged = new Map<number, CollectiveArray>();

  /** @param rounded that the values lie in, which can be gathered, where they are not floats */
  constructor(group: Group, link?: DeviceLink, rounded?: RoundedMemory) {
    this.#group = group;
    this.#link = link;
    this.#staging = rounded ? halves(rounded) : FLOATS;
  }

  /** As `Group.reduceScatter`, of ranges with nothing between them. */
  reduceScatter(values: Floats, ranges: readonly ElementRange[], wire: FloatWire): Pending {
    if (values instanceof Float32Array) return this.#group.reduceScatter(values, ranges, wire);
    if (this.#link) return this.#link.reduceScatter(this.#peersFor(ranges), values, ranges, wire);
    const { staged, within, copyBack } = this.#stage(values, ranges, ranges);
    return once(this.#group.reduceScatter(staged, within, wire), () => copyBack([this.#group.rank]));
  }

  /** As `Group.allGather`, of ranges with nothing between them. */
  allGather(values: Floats, ranges: readonly ElementRange[]): Pending {
    if (values instanceof Float32Array) return this.#group.allGather(values, ranges);
    if (this.#link) return this.#link.allGather(this.#peersFor(ranges), values, ranges);
    const { staged, within, copyBack } = this.#stage(values, ranges, [ranges[this.#group.rank]!]);
    const others = [...ranges.keys()].filter((rank) => rank !== this.#group.rank);
    return once(this.#group.allGather(staged, within), () => copyBack(others));
  }

  /** The group; what is short goes at once to all of it, as by way of the host. */
  #peersFor(ranges: readonly ElementRange[]): Peers {
    const { ranks, rank, grid } = this.#group;
    const elements = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
    return this.#staging.bytes * elements < LEAST_HIERARCHICAL_BYTES
      ? { ranks, rank }
      : { ranks, rank, grid };
  }

  /** @param sent what of the ranges is needed on the host */
  #stage(values: Floats, ranges: readonly ElementRange[], sent: readonly ElementRange[]) {
    const { width, make, toHost, toDevice } = this.#staging;
    const first = beginOf(ranges);
    const staged = this.#staged.get(first) ?? make(Math.max(...ranges.map(({ end }) => end)) - first);
    this.#staged.set(first, staged);
    const place = ({ start, end }: ElementRange) => ({
      start: width * (start - first),
      end: width * (end - first),
    });
    const within = ranges.map(place);
    const stagedOf = ({ start, end }: ElementRange): CollectiveArray => staged.subarray(start, end);
    for (const range of sent) toHost(partOf(values, range), stagedOf(place(range)));
    const copyBack = (ranks: readonly number[]) => {
      for (const rank of ranks) toDevice(partOf(values, ranges[rank]!), stagedOf(within[rank]!));
    };
    return { staged, within, copyBack };
  }
}

function partOf(values: Floats, { start, end }: ElementRange): Floats {
  return values.subarray(start, end);
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
