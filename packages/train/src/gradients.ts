/**
 * Gradients of one flat space, summed in the fixed order of the design (§3): grains in order within a lane, lanes by a
 * binary tree. A worker's lanes are an aligned subtree, of which at most log₂(lanes) + 1 partial sums live at a time.
 *
 * Expert gradients come from the tokens of several workers at once; each worker's contribution ("source") is kept apart,
 * as that worker would have kept it, until they are added in the tree's order.
 *
 * Where partial sums travel as bfloat16, every two of the tree are rounded before they are added, also those that do not travel, so
 * that the sum does not depend on the number of workers.
 *
 * On a device that has no room for all, the earliest partial sums lie on the host until the tree comes back to them.
 */

import type { ElementRange, FloatWire, Pending } from '@sluice/collectives';
import { type Floats, flatMemory, type GradientTarget } from '@sluice/engine';
import type { FlatSpace } from './flatSpace.ts';
import type { PlacedParameter } from './flatValues.ts';
import { type GradientBudget, GradientMemory, type PartialSums } from './gradientMemory.ts';

export class GradientSums {
  readonly #space: FlatSpace;
  readonly #sources: number;
  readonly #wire: FloatWire;
  readonly #memory: GradientMemory;
  /** Partial sums of the lanes so far, largest subtree first; the last is the lane being summed. */
  readonly #levels: PartialSums[] = [];
  /** How many of them, the earliest, lie on the host. */
  #parked = 0;
  #lane = -1;
  /** For each parameter and source: whether the current lane has a contribution yet. */
  readonly #written: Uint8Array;
  readonly #pending: Pending[] = [];
  #sourceShift = 0;

  /**
   * @param sources workers whose tokens reach the parameters of this space: 1, or the expert-parallel size
   * @param budget of the device's memory that partial sums may take
   * @param wire how partial sums travel
   */
  constructor(space: FlatSpace, sources: number, budget: GradientBudget, wire: FloatWire = 'float32') {
    this.#space = space;
    this.#sources = sources;
    this.#wire = wire;
    this.#memory = new GradientMemory(space.length, sources, budget);
    this.#written = new Uint8Array(space.parameters.length * sources);
    space.parameters.forEach((placed, index) => {
      placed.parameter.sink = (source) => this.#target(placed, index, source);
    });
  }

  /**
   * The sum over the global batch, after `finish`, in this worker's own slices; elsewhere what this worker contributed to
   * it.
   */
  get total(): Floats {
    return this.#levels[this.#parked]![0]!;
  }

  /** @param sourceShift places by which the sources of this step are out of place */
  beginStep(sourceShift = 0): void {
    // The earliest last, so that it is the first to be taken again.
    while (this.#levels.length > this.#parked) this.#memory.giveBack(this.#levels.pop()!);
    while (this.#levels.length > 0) this.#memory.giveBackParked(this.#levels.pop()!);
    this.#parked = 0;
    this.#lane = -1;
    this.#sourceShift = sourceShift;
  }

  beginLane(): void {
    this.#lane++;
    this.#levels.push(this.#memory.take() ?? this.#park());
    this.#written.fill(0);
  }

  /** Moves the earliest partial sums that do not lie on the host to it. @returns the memory that they had */
  #park(): PartialSums {
    const level = this.#parked++;
    const sums = this.#levels[level]!;
    this.#levels[level] = this.#memory.park(sums);
    return sums;
  }

  /** Ends a lane that is not the last: adds up the subtrees that it completes. */
  endLane(): void {
    for (const stage of this.#space.stages) this.#zeroUnwritten(stage);
    for (let lanes = this.#lane + 1; lanes % 2 === 0; lanes /= 2) this.#joinLast();
  }

  /** Adds up the last two partial sums: where the first of them is, unless that is on the host. */
  #joinLast(): void {
    const last = this.#levels.pop()!;
    const level = this.#levels.length - 1;
    const before = this.#levels[level]!;
    const whole = { start: 0, end: this.#space.length };
    if (level >= this.#parked) {
      this.#addSums(before, last, whole);
      this.#memory.giveBack(last);
    } else {
      this.#addSums(last, before, whole);
      this.#memory.giveBackParked(before);
      this.#levels[level] = last;
      this.#parked = level;
    }
  }

  /**
   * In the last lane, once all gradients of a stage are complete: adds up what is left of the worker's lanes, then the
   * sources. That is the worker's contribution to the stage.
   */
  completeStage(stage: number): void {
    const part = this.#space.stage(stage);
    if (!part) return;
    this.#zeroUnwritten(stage);
    const range = { start: part.begin, end: part.end };
    const levels = this.#levels;
    const first = this.#parked;
    for (let level = levels.length - 1; level > first; level--)
      this.#addSums(levels[level - 1]!, levels[level]!, range);
    for (let level = first - 1; level >= 0; level--) this.#addSums(levels[first]!, levels[level]!, range);
    this.#addSources(levels[first]!, range);
  }

  /** Starts the reduction of a complete stage among the workers; it overlaps what is left of the backward pass. */
  reduceStage(stage: number): void {
    const part = this.#space.stage(stage);
    if (!part || this.#space.group.size === 1) return;
    this.#pending.push(this.#space.transport.reduceScatter(this.total, part.slices, this.#wire));
  }

  /** Starts the reduction of all stages. */
  reduce(): void {
    for (const stage of this.#space.stages) this.reduceStage(stage);
  }

  /** Waits until this worker's slices hold the sums over the global batch. */
  finish(): void {
    for (const pending of this.#pending) pending.wait();
    this.#pending.length = 0;
  }

  #target(placed: PlacedParameter, index: number, from: number): GradientTarget {
    const source = (from + this.#sourceShift) % this.#sources;
    const slot = index * this.#sources + source;
    const accumulate = this.#written[slot] === 1;
    this.#written[slot] = 1;
    return { values: this.#part(placed, source), accumulate };
  }

  #part({ offset, spec }: PlacedParameter, source: number): Floats {
    return this.#levels.at(-1)![source]!.subarray(offset, offset + spec.size);
  }

  /** A parameter that nothing contributed to in this lane still holds the sums of an earlier step. */
  #zeroUnwritten(stage: number): void {
    this.#space.parameters.forEach((placed, index) => {
      if (placed.spec.stage !== stage) return;
      for (let source = 0; source < this.#sources; source++) {
        if (this.#written[index * this.#sources + source] === 0)
          flatMemory().fill(this.#part(placed, source), 0);
      }
    });
  }

  /** Adds two partial sums of lanes. */
  #add(target: Floats, source: Floats): void {
    if (this.#wire === 'bfloat16') flatMemory().addRounded(target, source);
    else flatMemory().add(target, source);
  }

  #addSums(target: PartialSums, others: PartialSums, { start, end }: ElementRange): void {
    for (const [source, values] of target.entries())
      this.#add(values.subarray(start, end), others[source]!.subarray(start, end));
  }

  #addSources(sums: PartialSums, { start, end }: ElementRange): void {
    const part = (source: number) => sums[source]!.subarray(start, end);
    for (let distance = 1; distance < this.#sources; distance *= 2) {
      for (let source = 0; source < this.#sources; source += 2 * distance)
        this.#add(part(source), part(source + distance));
    }
  }
}
