/**
 * Flat memory of parameters. The parameters of one placement (replicated, or expert) lie in one shared buffer, in the
 * order in which backward passes complete their gradients: stage after stage. Each stage is cut, between blocks, into
 * one slice for each worker that holds the same parameters; a worker sums, optimizes and saves its own slices.
 */

import type { ElementRange, Group } from '@sluice/collectives';
import { sharedFloat32 } from '@sluice/collectives';
import { BLOCK_ELEMENTS } from '@sluice/core';
import { Parameter } from '@sluice/engine';
import type { LogicalTensor, ParameterSpec } from '@sluice/model';

/** Parameters start at multiples of this many floats, one cache line. */
const ALIGNMENT = 16;

/** Elements that a parameter takes in a flat buffer. */
export function paddedSize(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}

export interface PlacedParameter {
  readonly spec: ParameterSpec;
  /** Elements before it in the flat buffer. */
  readonly offset: number;
  readonly parameter: Parameter;
}

/** A block-aligned part of a logical tensor that this worker owns. */
export interface OwnedPiece {
  readonly tensor: LogicalTensor;
  /** Elements [begin, end) of the tensor. */
  readonly begin: number;
  readonly end: number;
  /** Where `begin` lies in the flat buffer. */
  readonly flatOffset: number;
  readonly decay: boolean;
}

interface Stage {
  readonly begin: number;
  readonly end: number;
  /** Slices of the workers of the group, in order. */
  readonly slices: readonly ElementRange[];
}

export class FlatSpace {
  readonly placement: ParameterSpec['placement'];
  /** The workers that hold the same parameters. */
  readonly group: Group;
  readonly parameters: readonly PlacedParameter[];
  /** All values, shared with the communication thread. */
  readonly values: Float32Array;
  readonly ownedPieces: readonly OwnedPiece[];
  readonly #stages = new Map<number, Stage>();

  constructor(placement: ParameterSpec['placement'], specs: readonly ParameterSpec[], group: Group) {
    this.placement = placement;
    this.group = group;
    const ordered = specs.filter((spec) => spec.placement === placement).sort((a, b) => a.stage - b.stage);
    let length = 0;
    const offsets = ordered.map((spec) => {
      const offset = length;
      length += paddedSize(spec.size);
      return offset;
    });
    this.values = sharedFloat32(length);
    this.parameters = ordered.map((spec, i) => {
      const offset = offsets[i]!;
      const values = this.values.subarray(offset, offset + spec.size);
      return { spec, offset, parameter: new Parameter(spec.name, spec.shape, values) };
    });
    for (const stage of new Set(ordered.map((spec) => spec.stage)))
      this.#stages.set(stage, this.#cutStage(stage));
    this.ownedPieces = this.parameters.flatMap((placed) => this.#piecesOf(placed));
  }

  get length(): number {
    return this.values.length;
  }

  /** Stage numbers, in the order of completion. */
  get stages(): number[] {
    return [...this.#stages.keys()];
  }

  /** The stage's part of the flat buffer and its slices; undefined where the stage has no parameters here. */
  stage(stage: number): Stage | undefined {
    return this.#stages.get(stage);
  }

  #cutStage(stage: number): Stage {
    const placed = this.parameters.filter(({ spec }) => spec.stage === stage);
    const last = placed.at(-1)!;
    const begin = placed[0]!.offset;
    const end = last.offset + paddedSize(last.spec.size);
    const blockStarts = placed.flatMap(({ spec, offset }) =>
      spec.tensors.flatMap((tensor) =>
        Array.from(
          { length: Math.ceil(tensor.size / BLOCK_ELEMENTS) },
          (_, i) => offset + tensor.offset + i * BLOCK_ELEMENTS,
        ),
      ),
    );
    const cut = (share: number) => blockStarts.find((start) => start >= begin + (end - begin) * share) ?? end;
    const { size } = this.group;
    const slices = Array.from({ length: size }, (_, rank) => ({
      start: rank === 0 ? begin : cut(rank / size),
      end: rank === size - 1 ? end : cut((rank + 1) / size),
    }));
    return { begin, end, slices };
  }

  #piecesOf({ spec, offset }: PlacedParameter): OwnedPiece[] {
    const own = this.#stages.get(spec.stage)!.slices[this.group.rank]!;
    return spec.tensors.flatMap((tensor) => {
      const start = offset + tensor.offset;
      const begin = Math.max(0, own.start - start);
      const end = Math.min(tensor.size, own.end - start);
      return begin < end ? [{ tensor, begin, end, flatOffset: start + begin, decay: spec.decay }] : [];
    });
  }
}
