/**
 * Flat memory of parameters. The parameters of one placement (replicated, or expert) are laid out as one buffer, in the
 * order in which backward passes complete their gradients: stage after stage, and of a stage first those whose values are kept rounded,
 * where some are. Gradients lie so, and values, in one memory or in two. Each stage is cut, between blocks or whole
 * matrices, into one slice for each worker that holds the same parameters; a worker sums, optimizes and saves its own slices.
 */

import type { ElementRange, Group } from '@sluice/collectives';
import { BLOCK_ELEMENTS } from '@sluice/core';
import { changeOnHost, changeOnHostAsync, type DeviceLink, type Floats, flatMemory } from '@sluice/engine';
import type { LogicalTensor, ParameterSpec } from '@sluice/model';
import { FlatTransport } from './flatTransport.ts';
import { FlatValues, type Placed, type PlacedParameter, paddedSize } from './flatValues.ts';
import { dealOut, type Unit } from './slices.ts';

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

/** The same with its values, as they are trained. */
export interface OwnedValues extends OwnedPiece {
  readonly values: Floats;
  /** Whether passes read the same rounded, and elsewhere. */
  readonly isApart: boolean;
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
  /** Elements of the whole buffer. */
  readonly length: number;
  readonly parameters: readonly PlacedParameter[];
  /** Where the parameters' values are. */
  readonly memories: readonly FlatValues[];
  readonly ownedPieces: readonly OwnedValues[];
  /** Collectives of the group on memory of this layout. */
  readonly transport: FlatTransport;
  /** By the names of their tensors. */
  readonly #owned: ReadonlyMap<string, OwnedValues>;
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
    const rounded = flatMemory().rounded?.();
    const { placed, length } = place(placement, specs, rounded !== undefined);
    this.length = length;
    for (const { stage, ...cut } of cutStages(placed, group.size, wholeCost)) this.#stages.set(stage, cut);
    const slicesOf = (stage: number) => this.#stages.get(stage)!.slices;
    const apart = [placed.filter(isReadRounded), placed.filter((one) => !isReadRounded(one))];
    this.memories = (rounded ? apart : [placed])
      .filter((parameters) => parameters.length > 0)
      .map((parameters) => {
        const ofThese = rounded && isReadRounded(parameters[0]!) ? rounded : undefined;
        // What is laid out otherwise needs other memory of the host.
        const transport = rounded ? new FlatTransport(group, link, ofThese) : this.transport;
        return new FlatValues(parameters, slicesOf, group, transport, ofThese);
      });
    this.parameters = this.memories
      .flatMap(({ parameters }) => parameters)
      .sort((a, b) => a.offset - b.offset);
    this.ownedPieces = this.memories
      .flatMap((memory) =>
        memory.parameters.flatMap(({ spec, offset }) =>
          piecesWithin(spec, offset, slicesOf(spec.stage)[group.rank]!).map((piece) => ({
            ...piece,
            values: memory.trained(spec.stage, piece.flatOffset, piece.end - piece.begin),
            isApart: memory.areRounded,
          })),
        ),
      )
      .sort((a, b) => a.flatOffset - b.flatOffset);
    this.#owned = new Map(this.ownedPieces.map((piece) => [piece.tensor.name, piece]));
  }

  /** Has `fill` give a tensor of one of the parameters its values, all of them, wherever this worker has some. */
  fillTensor(
    { parameter }: PlacedParameter,
    tensor: LogicalTensor,
    fill: (values: Float32Array) => void,
  ): void {
    changeOnHost(rangeOf(parameter.values, tensor), (values) => {
      fill(values);
      this.#takeOwned(tensor, values);
    });
  }

  /** The same where that takes its time. */
  fillTensorAsync(
    { parameter }: PlacedParameter,
    tensor: LogicalTensor,
    fill: (values: Float32Array) => Promise<void>,
  ): Promise<void> {
    return changeOnHostAsync(rangeOf(parameter.values, tensor), async (values) => {
      await fill(values);
      this.#takeOwned(tensor, values);
    });
  }

  #takeOwned({ name }: LogicalTensor, values: Float32Array): void {
    const piece = this.#owned.get(name);
    if (piece?.isApart) flatMemory().write(piece.values, values.subarray(piece.begin, piece.end));
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

function rangeOf(values: Floats, { offset, size }: LogicalTensor): Floats {
  return values.subarray(offset, offset + size);
}

/** Whether every pass reads it rounded, where activations are. */
function isReadRounded({ spec }: Pick<Placed, 'spec'>): boolean {
  return spec.readIn === 'activations';
}

/**
 * The parameters of a placement where they lie in its buffer, and the buffer's length.
 * @param areSomeRounded whether values are kept rounded where they are read so
 */
function place(
  placement: ParameterSpec['placement'],
  specs: readonly ParameterSpec[],
  areSomeRounded: boolean,
): { placed: Placed[]; length: number } {
  const order = (spec: ParameterSpec) => Number(areSomeRounded && !isReadRounded({ spec }));
  const ordered = specs
    .filter((spec) => spec.placement === placement)
    .sort((a, b) => a.stage - b.stage || order(a) - order(b));
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
 * @param areSomeRounded as a device has it whose activations are bf16
 */
export function ownedTensors(
  placement: ParameterSpec['placement'],
  specs: readonly ParameterSpec[],
  size: number,
  wholeCost: WholeCost,
  areSomeRounded: boolean,
): { spec: ParameterSpec; tensor: LogicalTensor; elements: number }[][] {
  const { placed } = place(placement, specs, areSomeRounded);
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
