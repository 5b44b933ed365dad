/**
 * Gradients of one flat space, summed in the fixed order of the design (§3): grains in order within a lane, lanes by a
 * binary tree. A worker's lanes are an aligned subtree, of which at most log₂(lanes) + 1 partial sums live at a time.
 *
 * Expert gradients come from the tokens of several workers at once; each worker's contribution ("source") is kept apart,
 * as that worker would have kept it, until they are added in the tree's order.
 *
 * Where partial sums travel as bfloat16, every two of the tree are rounded before they are added, also those that do not travel, so
 * that the sum does not depend on the number of workers.
 */

import type { ElementRange, FloatWire, Pending } from '@sluice/collectives';
import { type Floats, flatMemory, type GradientTarget } from '@sluice/engine';
import type { FlatSpace, PlacedParameter } from './flatSpace.ts';

export class GradientSums {
  readonly #space: FlatSpace;
  readonly #sources: number;
  readonly #wire: FloatWire;
  /** Partial sums of the lanes so far, largest subtree first; the last is the lane being summed. */
  readonly #levels: Floats[] = [];
  #depth = 0;
  #lane = -1;
  /** For each parameter and source: whether the current lane has a contribution yet. */
  readonly #written: Uint8Array;
  readonly #pending: Pending[] = [];
  #sourceShift = 0;

  /**
   * @param sources workers whose tokens reach the parameters of this space: 1, or the expert-parallel size
   * @param wire how partial sums travel
   */
  constructor(space: FlatSpace, sources: number, wire: FloatWire = 'float32') {
    this.#space = space;
    this.#sources = sources;
    this.#wire = wire;
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
    return this.#levels[0]!.subarray(0, this.#space.length);
  }

  /** @param sourceShift places by which the sources of this step are out of place */
  beginStep(sourceShift = 0): void {
    this.#depth = 0;
    this.#lane = -1;
    this.#sourceShift = sourceShift;
  }

  beginLane(): void {
    this.#lane++;
    this.#depth++;
    this.#levels[this.#depth - 1] ??= flatMemory().makeShared(this.#space.length * this.#sources);
    this.#written.fill(0);
  }

  /** Ends a lane that is not the last: adds up the subtrees that it completes. */
  endLane(): void {
    for (const stage of this.#space.stages) this.#zeroUnwritten(stage);
    for (let lanes = this.#lane + 1; lanes % 2 === 0; lanes /= 2) {
      this.#addLevelBelow(this.#depth - 1, { start: 0, end: this.#space.length });
      this.#depth--;
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
    for (let level = this.#depth - 1; level > 0; level--) this.#addLevelBelow(level, range);
    this.#addSources(range);
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
    const start = source * this.#space.length + offset;
    return this.#levels[this.#depth - 1]!.subarray(start, start + spec.size);
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

  #addLevelBelow(level: number, { start, end }: ElementRange): void {
    for (let source = 0; source < this.#sources; source++) {
      const shift = source * this.#space.length;
      const target = this.#levels[level - 1]!.subarray(shift + start, shift + end);
      this.#add(target, this.#levels[level]!.subarray(shift + start, shift + end));
    }
  }

  #addSources({ start, end }: ElementRange): void {
    const part = (source: number) => {
      const shift = source * this.#space.length;
      return this.#levels[0]!.subarray(shift + start, shift + end);
    };
    for (let distance = 1; distance < this.#sources; distance *= 2) {
      for (let source = 0; source < this.#sources; source += 2 * distance)
        this.#add(part(source), part(source + distance));
    }
  }
}
