/**
 * Flat memory of parameters. The parameters of one placement (replicated, or expert) lie in one buffer, in the
 * order in which backward passes complete their gradients: stage after stage. Each stage is cut, between blocks or whole
 * matrices, into one slice for each worker that holds the same parameters; a worker sums, optimizes and saves its own slices.
 */

import type { ElementRange, Group } from '@sluice/collectives';
import { BLOCK_ELEMENTS } from '@sluice/core';
import { type DeviceLink, type Floats, flatMemory, Parameter } from '@sluice/engine';
import type { LogicalTensor, ParameterSpec } from '@sluice/model';
import { FlatTransport } from './flatTransport.ts';
import { dealOut, type Unit } from './slices.ts';

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
  readonly spec: ParameterSpec;
}

/**
 * What the update of a tensor costs that only its whole can be updated by, against the 1 of an element that is updated by
 * itself; undefined for tensors that can be cut between blocks.
 */
export type WholeCost = (spec: ParameterSpec, tensor: LogicalTensor) => number | undefined;

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
  readonly values: Floats;
  readonly ownedPieces: readonly OwnedPiece[];
  /** Collectives of the group on memory of this layout. */
  readonly transport: FlatTransport;
  readonly #stages = new Map<number, Stage>();

  /** @param link between the devices of the group's workers, where there is one */
  constructor(
    placement: ParameterSpec['placement'],
    specs: readonly ParameterSpec[],
    group: Group,
    wholeCost: WholeCost = () => undefined,
    link?: DeviceLink,
  ) {
    this.placement = placement;
    this.group = group;
    this.transport = new FlatTransport(group, link);
    const { placed, length } = place(placement, specs);
    this.values = flatMemory().makeShared(length);
    this.parameters = placed.map(({ spec, offset }) => {
      const values = this.values.subarray(offset, offset + spec.size);
      return { spec, offset, parameter: new Parameter(spec.name, spec.shape, values) };
    });
    for (const { stage, ...cut } of cutStages(placed, group.size, wholeCost)) this.#stages.set(stage, cut);
    this.ownedPieces = placed.flatMap(({ spec, offset }) =>
      piecesWithin(spec, offset, this.#stages.get(spec.stage)!.slices[group.rank]!),
    );
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
}

type Placed = Pick<PlacedParameter, 'spec' | 'offset'>;

/** The parameters of a placement where they lie in its buffer, and the buffer's length. */
function place(
  placement: ParameterSpec['placement'],
  specs: readonly ParameterSpec[],
): { placed: Placed[]; length: number } {
  const ordered = specs.filter((spec) => spec.placement === placement).sort((a, b) => a.stage - b.stage);
  let length = 0;
  const placed = ordered.map((spec) => {
    const offset = length;
    length += paddedSize(spec.size);
    return { spec, offset };
  });
  return { placed, length };
}

function cutStages(
  placed: readonly Placed[],
  size: number,
  wholeCost: WholeCost,
): (Stage & { stage: number })[] {
  const stages = [...new Set(placed.map(({ spec }) => spec.stage))].map((stage) => {
    const within = placed.filter(({ spec }) => spec.stage === stage);
    const last = within.at(-1)!;
    const begin = within[0]!.offset;
    const end = last.offset + paddedSize(last.spec.size);
    return { stage, begin, end, units: within.flatMap((one) => unitsOf(one, wholeCost)) };
  });
  const slices = dealOut(stages, size);
  return stages.map(({ stage, begin, end }, i) => ({ stage, begin, end, slices: slices[i]! }));
}

function unitsOf({ spec, offset }: Placed, wholeCost: WholeCost): Unit[] {
  return spec.tensors.flatMap((tensor) => {
    const start = offset + tensor.offset;
    const cost = wholeCost(spec, tensor);
    if (cost !== undefined) return [{ start, cost }];
    const blocks = Math.ceil(tensor.size / BLOCK_ELEMENTS);
    return Array.from({ length: blocks }, (_, i) => ({
      start: start + i * BLOCK_ELEMENTS,
      cost: Math.min(BLOCK_ELEMENTS, tensor.size - i * BLOCK_ELEMENTS),
    }));
  });
}

/**
 * Elements that each worker would own of the logical tensors of a placement, without any memory.
 * @param size workers that hold the same parameters
 */
export function ownedTensors(
  placement: ParameterSpec['placement'],
  specs: readonly ParameterSpec[],
  size: number,
  wholeCost: WholeCost,
): { spec: ParameterSpec; tensor: LogicalTensor; elements: number }[][] {
  const { placed } = place(placement, specs);
  const stages = new Map(cutStages(placed, size, wholeCost).map((cut) => [cut.stage, cut]));
  return Array.from({ length: size }, (_, rank) =>
    placed.flatMap(({ spec, offset }) =>
      piecesWithin(spec, offset, stages.get(spec.stage)!.slices[rank]!).map(({ tensor, begin, end }) => ({
        spec,
        tensor,
        elements: end - begin,
      })),
    ),
  );
}

/** The parts of a parameter's tensors that lie within a slice. */
function piecesWithin(spec: ParameterSpec, offset: number, own: ElementRange): OwnedPiece[] {
  return spec.tensors.flatMap((tensor) => {
    const start = offset + tensor.offset;
    const begin = Math.max(0, own.start - start);
    const end = Math.min(tensor.size, own.end - start);
    return begin < end ? [{ tensor, begin, end, flatOffset: start + begin, spec }] : [];
  });
}
