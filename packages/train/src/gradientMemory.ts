/**
 * Memory for partial sums of gradients. On a device it is the device's own as long as there is room, and then memory of the host that the
 * device reaches over the bus: no bit depends on it.
 */

import { type Floats, flatMemory } from '@sluice/engine';
import type { RunConfig } from './config.ts';
import { passBytes } from './plan/memory.ts';

/** The sum of some lanes, of each source by itself. */
export type PartialSums = readonly Floats[];

/** What partial sums may take of a device's memory; a host has no such limit. */
export class GradientBudget {
  readonly #most: number | undefined;
  /** Bytes that passes will need. */
  readonly #reserved: number;
  #taken = 0;

  /** @param devicesPerHost all of the run's when left out */
  constructor(config: RunConfig, devicesPerHost?: number) {
    const { gradientMiB } = config.parallel;
    this.#most = gradientMiB === undefined ? undefined : gradientMiB * 2 ** 20;
    this.#reserved = passBytes(config, devicesPerHost);
  }

  /** Whether there is room for so many bytes more, which are then taken. */
  take(bytes: number): boolean {
    const { bytesLeft } = flatMemory();
    if (!bytesLeft) return true;
    const room = this.#most === undefined ? bytesLeft() - this.#reserved : this.#most - this.#taken;
    if (bytes > room) return false;
    this.#taken += bytes;
    return true;
  }
}

/** Memory for the partial sums of one space, which is used again and again. */
export class GradientMemory {
  readonly #length: number;
  readonly #sources: number;
  readonly #budget: GradientBudget;
  readonly #spare: PartialSums[] = [];
  readonly #spareOnHost: PartialSums[] = [];
  #isFirst = true;

  /** @param length elements of a source's gradients */
  constructor(length: number, sources: number, budget: GradientBudget) {
    this.#length = length;
    this.#sources = sources;
    this.#budget = budget;
  }

  /**
   * Memory that gradients are written to; undefined where there is no room for more. The first time there is some in any case: what a
   * device has no room for then, of the sources after the first, lies on the host.
   */
  take(): PartialSums | undefined {
    const spare = this.#spare.pop();
    if (spare) return spare;
    const bytes = 4 * this.#length;
    if (this.#isFirst) {
      this.#isFirst = false;
      return this.#make((source) => this.#budget.take(bytes) || source === 0);
    }
    return this.#budget.take(bytes * this.#sources) ? this.#make(() => true) : undefined;
  }

  giveBack(sums: PartialSums): void {
    this.#spare.push(sums);
  }

  /** Copies sums to the host. @returns them there */
  park(sums: PartialSums): PartialSums {
    const parked = this.#spareOnHost.pop() ?? this.#make(() => false);
    for (const [source, values] of parked.entries()) flatMemory().copy(values, sums[source]!);
    return parked;
  }

  giveBackParked(sums: PartialSums): void {
    this.#spareOnHost.push(sums);
  }

  #make(isOnDevice: (source: number) => boolean): PartialSums {
    const memory = flatMemory();
    return Array.from({ length: this.#sources }, (_, source) =>
      isOnDevice(source) || !memory.makeOnHost
        ? memory.makeShared(this.#length)
        : memory.makeOnHost(this.#length),
    );
  }
}
