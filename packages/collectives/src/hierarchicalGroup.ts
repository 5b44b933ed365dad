/**
 * A group over several hosts, whose sums and gatherings go in two phases: within each host, and between those ranks that have the
 * same place on each. So a rank sends messages to as many others as there are hosts, beside its neighbours, and what leaves a host is
 * one sum in place of each rank's part. The bits are those of a flat group, since the sums of hosts are subtrees of the sum of all.
 *
 * Each phase is a group of its own, whose operations all of its ranks launch in the order of the whole group's, whenever they are
 * ready.
 */

import {
  arrayOver,
  type CollectiveArray,
  consecutiveRanges,
  dataTypeOf,
  type ElementRange,
  type FloatWire,
  wireBytes,
} from './arrays.ts';
import type { Exchange } from './exchange.ts';
import { type HostGrid, LEAST_HIERARCHICAL_BYTES } from './hostGrid.ts';
import { evenSlices, ProcessGroup, type ProcessGroupOptions } from './processGroup.ts';
import { ScratchMemory } from './scratchMemory.ts';

/** One way of one phase: operations are launched in the order in which they were asked for, each once it is ready. */
class Phase {
  readonly #group: ProcessGroup;
  #last: Promise<unknown> = Promise.resolve();

  constructor(group: ProcessGroup) {
    this.#group = group;
  }

  run(ready: Promise<unknown>, launch: (group: ProcessGroup) => Promise<number>): Promise<number> {
    // Wrapped, so that the next one waits for this one's launch, and not for its end.
    const launched = this.#last.then(() => ready).then(() => ({ ended: launch(this.#group) }));
    this.#last = launched.catch(() => {});
    return launched.then(({ ended }) => ended);
  }
}

export class HierarchicalGroup extends ProcessGroup {
  readonly #grid: HostGrid;
  readonly #host: number;
  readonly #place: number;
  readonly #sumsWithin: Phase;
  readonly #sumsBetween: Phase;
  readonly #gathersBetween: Phase;
  readonly #gathersWithin: Phase;
  readonly #scratch = new ScratchMemory();

  constructor(
    exchange: Exchange,
    ranks: readonly number[],
    grid: HostGrid,
    options: ProcessGroupOptions = {},
  ) {
    super(exchange, ranks, options);
    this.#grid = grid;
    const { perHost } = grid;
    this.#host = Math.floor(this.rank / perHost);
    this.#place = this.rank % perHost;
    const neighbours = ranks.slice(this.#host * perHost, (this.#host + 1) * perHost);
    const counterparts = ranks.filter((_, rank) => rank % perHost === this.#place);
    const phase = (members: readonly number[], purpose: string) =>
      new Phase(
        new ProcessGroup(exchange, members, {
          ...options,
          purpose: `${ranks.join(',')} ${purpose}`,
          concerned: ranks,
        }),
      );
    this.#sumsWithin = phase(neighbours, 'sums within');
    this.#sumsBetween = phase(counterparts, 'sums between');
    this.#gathersBetween = phase(counterparts, 'gathers between');
    this.#gathersWithin = phase(neighbours, 'gathers within');
  }

  override allReduce(buffer: CollectiveArray): Promise<number> {
    if (buffer.byteLength < LEAST_HIERARCHICAL_BYTES) return super.allReduce(buffer);
    const ranges = evenSlices(buffer.length, this.size);
    return this.#gather(buffer, ranges, this.#sum(buffer, ranges));
  }

  override reduceScatter(
    buffer: CollectiveArray,
    ranges: readonly ElementRange[],
    wire?: FloatWire,
  ): Promise<number> {
    if (wireBytes(buffer, ranges, wire) < LEAST_HIERARCHICAL_BYTES)
      return super.reduceScatter(buffer, ranges, wire);
    return this.#sum(buffer, ranges, wire);
  }

  override allGather(buffer: CollectiveArray, ranges: readonly ElementRange[]): Promise<number> {
    if (wireBytes(buffer, ranges) < LEAST_HIERARCHICAL_BYTES) return super.allGather(buffer, ranges);
    return this.#gather(buffer, ranges, Promise.resolve(Number.NEGATIVE_INFINITY));
  }

  /** Each rank sums, within its host, what is to be of the ranks of its place on all hosts; these exchange the sums. */
  async #sum(buffer: CollectiveArray, ranges: readonly ElementRange[], wire?: FloatWire): Promise<number> {
    const column = this.#column(ranges);
    const parts = consecutiveRanges(column.map(({ start, end }) => end - start));
    const memory = this.#scratch.take(wireBytes(buffer, parts));
    const scratch = arrayOver(dataTypeOf(buffer), memory.buffer, memory.byteOffset, parts.at(-1)!.end);
    const within = this.#sumsWithin.run(Promise.resolve(), (group) =>
      latest(
        parts.map(({ start, end }, host) =>
          group.reduceInto(buffer, this.#row(ranges, host), scratch.subarray(start, end), wire),
        ),
      ),
    );
    const begun = await latest([
      within,
      this.#sumsBetween.run(within, (group) => group.reduceScatter(scratch, parts, wire)),
    ]);
    const own = parts[this.#host]!;
    buffer.set(scratch.subarray(own.start, own.end), column[this.#host]!.start);
    this.#scratch.give(memory);
    return begun;
  }

  /** Each rank gathers what those of its place on the other hosts have; neighbours exchange what they got. */
  async #gather(
    buffer: CollectiveArray,
    ranges: readonly ElementRange[],
    ready: Promise<number>,
  ): Promise<number> {
    const between = this.#gathersBetween.run(ready, (group) => group.allGather(buffer, this.#column(ranges)));
    const within = this.#gathersWithin.run(between, (group) =>
      latest(
        Array.from({ length: this.#grid.hosts }, (_, host) =>
          group.allGather(buffer, this.#row(ranges, host)),
        ),
      ),
    );
    await within;
    // By then all had come, and what neighbours wait for is bytes.
    return latest([ready, between]);
  }

  /** Of the ranks that have this one's place, host by host. */
  #column(ranges: readonly ElementRange[]): ElementRange[] {
    return ranges.filter((_, rank) => rank % this.#grid.perHost === this.#place);
  }

  /** Of the ranks of a host. */
  #row(ranges: readonly ElementRange[], host: number): ElementRange[] {
    const { perHost } = this.#grid;
    return ranges.slice(host * perHost, (host + 1) * perHost);
  }
}

async function latest(moments: readonly Promise<number>[]): Promise<number> {
  return Math.max(...(await Promise.all(moments)));
}
