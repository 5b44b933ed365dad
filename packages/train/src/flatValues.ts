/**
 * Values of parameters of a flat space, of those that passes read in the same precision. Where a device's activations are bf16, weights
 * that are only read so lie on every worker in bf16, and are gathered so; who owns a part of them has it in single precision besides.
 */

import type { ElementRange, Group, Pending } from '@sluice/collectives';
import { type Floats, flatMemory, Parameter, type RoundedMemory } from '@sluice/engine';
import type { ParameterSpec } from '@sluice/model';
import type { FlatTransport } from './flatTransport.ts';

/** Parameters start at multiples of this many floats, one cache line. */
const ALIGNMENT = 16;

/** Elements that a parameter takes in a flat buffer. */
export function paddedSize(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}

/** A parameter's place. */
export interface Placed {
  readonly spec: ParameterSpec;
  /** Elements before it in the flat buffer. */
  readonly offset: number;
}

export interface PlacedParameter extends Placed {
  readonly parameter: Parameter;
}

/** What is here of a stage: parameters that follow each other in the flat buffer. */
interface Part {
  /** Elements that a place is further on here than in the flat buffer. */
  readonly shift: number;
  /** What is here of the slices of the workers, in order. */
  readonly slices: readonly ElementRange[];
  /** Where the own one begins among all that this worker owns. */
  readonly owned: number;
}

export class FlatValues {
  readonly parameters: readonly PlacedParameter[];
  /** What all workers of the group have. */
  readonly values: Floats;
  readonly #group: Group;
  readonly #transport: FlatTransport;
  readonly #rounded: RoundedMemory | undefined;
  /** Of what is rounded: all own slices, one after the other, as they are trained. */
  readonly #master: Floats | undefined;
  readonly #parts = new Map<number, Part>();

  /**
   * @param placed in their order
   * @param slicesOf a stage, in the flat buffer
   * @param transport of this memory alone, where it is not laid out as the flat buffer is
   * @param rounded where they are kept in bf16
   */
  constructor(
    placed: readonly Placed[],
    slicesOf: (stage: number) => readonly ElementRange[],
    group: Group,
    transport: FlatTransport,
    rounded: RoundedMemory | undefined,
  ) {
    this.#group = group;
    this.#transport = transport;
    this.#rounded = rounded;
    let [length, owned] = [0, 0];
    for (const stage of new Set(placed.map(({ spec }) => spec.stage))) {
      const within = placed.filter(({ spec }) => spec.stage === stage);
      const [begin, last] = [within[0]!.offset, within.at(-1)!];
      const end = last.offset + paddedSize(last.spec.size);
      const shift = length - begin;
      const place = (at: number) => Math.min(Math.max(at, begin), end) + shift;
      const slices = slicesOf(stage).map(({ start, end }) => ({ start: place(start), end: place(end) }));
      this.#parts.set(stage, { shift, slices, owned });
      length += end - begin;
      owned += lengthOf(slices[group.rank]!);
    }
    this.values = rounded ? rounded.make(length) : flatMemory().makeShared(length);
    this.#master = rounded && flatMemory().make(owned);
    this.parameters = placed.map(({ spec, offset }) => {
      const start = offset + this.#parts.get(spec.stage)!.shift;
      const values = this.values.subarray(start, start + spec.size);
      return { spec, offset, parameter: new Parameter(spec.name, spec.shape, values) };
    });
  }

  /** Whether what is trained is apart from what passes read, which is the same rounded. */
  get areRounded(): boolean {
    return this.#rounded !== undefined;
  }

  /** What is trained of a stage. @param offset in the flat buffer, within the own slice */
  trained(stage: number, offset: number, length: number): Floats {
    const { shift, slices, owned } = this.#parts.get(stage)!;
    const start = offset + shift;
    if (!this.#master) return this.values.subarray(start, start + length);
    const at = owned + start - slices[this.#group.rank]!.start;
    return this.#master.subarray(at, at + length);
  }

  /** Begins to give the group the own slice of a stage, as it was trained. @returns undefined where nobody else is in it */
  share(stage: number): Pending | undefined {
    const { slices, owned } = this.#parts.get(stage)!;
    const own = slices[this.#group.rank]!;
    if (this.#master) {
      const trained = this.#master.subarray(owned, owned + lengthOf(own));
      this.#rounded!.round(this.values.subarray(own.start, own.end), trained);
    }
    return this.#group.size === 1 ? undefined : this.#transport.allGather(this.values, slices);
  }
}

function lengthOf({ start, end }: ElementRange): number {
  return end - start;
}
