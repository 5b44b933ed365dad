/**
 * Tells a machine that computes wrongly from bad data and bad luck. A step is a function of its inputs to the last bit: when
 * its lanes are handed to other workers, the same bits must come out. Where they do not, a third pass on yet other workers
 * decides who computed something else. (Megatron-LM's rerun machine compares by tolerance; here it is equality.)
 *
 * A *position* is the part of a step that one rank has: its lanes, and with them the contribution to every sum. A pass hands
 * each position to a rank, which *performs* it.
 */

import { createHash } from 'node:crypto';
import { sharedFloat64 } from '@sluice/collectives';
import { changeOnHost, type Floats, flatMemory } from '@sluice/engine';
import { makeWhole } from './agreement.ts';
import type { FlatSpace } from './flatSpace.ts';
import type { Topology } from './topology.ts';

/** Who performs what in a pass. */
export interface Handing {
  /** The position that this rank performs. */
  readonly position: number;
  /** By how many places the tokens of workers that share experts are out of place. */
  readonly sourceShift: number;
  /** The rank that performs a position. */
  performer(position: number): number;
}

/**
 * Hands positions on by `times` places. Sets of workers that share experts hand on to the next set; where there is one set,
 * its workers hand their tokens to each other, and experts stay where they are.
 */
export function handOn({ rank, size, experts }: Topology, times: number): Handing {
  const sets = size / experts.size;
  const shift = (sets > 1 ? times * experts.size : times) % size;
  return {
    position: (rank + shift) % size,
    sourceShift: sets > 1 ? 0 : shift,
    performer: (position) => (position - shift + size) % size,
  };
}

/** Moves what was performed for another position to the rank that has it. */
export function handBack(values: Floats, { space, topology }: SpaceOf, handing: Handing): void {
  const { group, placement } = space;
  // Experts of a single set were computed where they are.
  const isInPlace = placement === 'expert' && topology.size === topology.experts.size;
  if (handing.position === topology.rank || isInPlace) return;
  const to = group.ranks.indexOf(handing.position);
  const from = group.ranks.indexOf(handing.performer(topology.rank));
  const only = (rank: number) =>
    group.ranks.map((_, r) => ({ start: 0, end: r === rank ? values.length : 0 }));
  changeOnHost(values, (own) => {
    const received = new Float32Array(own.length);
    group.allToAll(own, only(to), received, only(from)).wait();
    own.set(received);
  });
}

interface SpaceOf {
  readonly space: FlatSpace;
  readonly topology: Topology;
}

/** What one rank has to show for its position after a pass. */
export interface Evidence {
  /** For each space and each world rank, the hash of what lies in that rank's slices; empty where it has none. */
  readonly slices: readonly (readonly string[])[];
  /** Losses of all grains, the same on all ranks. */
  readonly losses: Float64Array;
}

/**
 * The own slices hold the sums of all positions by now, all others what this position gave to them.
 * @param spaces with their gradients after reduction
 */
export function evidenceOf(
  spaces: readonly { readonly space: FlatSpace; readonly values: Floats }[],
  losses: Float64Array,
  size: number,
): Evidence {
  return {
    slices: spaces.map(({ space, values }) =>
      Array.from({ length: size }, (_, owner) => hashOfSlices(space, values, owner)),
    ),
    losses: losses.slice(),
  };
}

function hashOfSlices(space: FlatSpace, values: Floats, owner: number): string {
  const member = space.group.ranks.indexOf(owner);
  if (member === -1) return '';
  const hash = createHash('sha256');
  for (const stage of space.stages) {
    const { start, end } = space.stage(stage)!.slices[member]!;
    hash.update(flatMemory().read(values.subarray(start, end)));
  }
  return hash.digest('hex');
}

/** Where two passes differ, the same on all ranks: by space, position and owner of slices; and by position in the losses. */
export interface Differences {
  readonly slices: readonly (readonly (readonly boolean[])[])[];
  readonly losses: readonly boolean[];
}

/** All ranks compare two passes together. */
export function compare(a: Evidence, b: Evidence, topology: Topology): Differences {
  const { rank, size } = topology;
  const marks = sharedFloat64(a.slices.length * size * size);
  a.slices.forEach((owners, space) => {
    owners.forEach((hash, owner) => {
      if (hash !== b.slices[space]![owner]) marks[(space * size + rank) * size + owner] = 1;
    });
  });
  makeWhole(marks, topology);
  const grains = a.losses.length / size;
  const isOther = (grain: number) => !Object.is(a.losses[grain], b.losses[grain]);
  return {
    slices: a.slices.map((_, space) =>
      Array.from({ length: size }, (_, position) =>
        Array.from({ length: size }, (_, owner) => marks[(space * size + position) * size + owner] === 1),
      ),
    ),
    losses: Array.from({ length: size }, (_, position) =>
      Array.from({ length: grains }, (_, i) => isOther(position * grains + i)).some(Boolean),
    ),
  };
}

export function isSame({ slices, losses }: Differences): boolean {
  return !slices.flat(2).some(Boolean) && !losses.some(Boolean);
}

/** Three passes over one step. */
export interface Passes {
  /** The rank that performed a position in each pass. */
  readonly performers: readonly ((position: number) => number)[];
  readonly firstSecond: Differences;
  readonly firstThird: Differences;
  readonly secondThird: Differences;
}

/** What follows from three passes. */
export interface Verdict {
  /** Who computed something else than the other two. */
  readonly suspects: readonly number[];
  /** Whether the numbers of the last pass are those that two agree on, all of them. */
  readonly isSound: boolean;
}

/** Of three results of which two are the same, the third is wrong, and with it the rank that computed it. */
export function blame({ performers, firstSecond, firstThird, secondThird }: Passes): Verdict {
  const items = differingItems([firstSecond, firstThird, secondThird]);
  const odd = items.map(({ of }) => {
    const [ab, ac, bc] = [of(firstSecond), of(firstThird), of(secondThird)];
    if (ab && ac && !bc) return 0;
    if (ab && !ac && bc) return 1;
    if (!ab && ac && bc) return 2;
    return undefined;
  });
  const suspectsOf = (isMeant: (item: Item) => boolean) =>
    new Set(
      items.flatMap((item, i) =>
        isMeant(item) && odd[i] !== undefined ? [performers[odd[i]]!(item.position)] : [],
      ),
    );
  // What is wrong in a worker's own arithmetic also reaches the experts that its tokens go to.
  const own = suspectsOf(({ space }) => space === 0);
  const suspects = own.size > 0 ? own : suspectsOf(() => true);
  return {
    suspects: [...suspects].sort((a, b) => a - b),
    isSound: odd.every((pass) => pass === 0 || pass === 1),
  };
}

/** A result that a position is answerable for. */
interface Item {
  readonly position: number;
  readonly space: number;
  of(differences: Differences): boolean;
}

function differingItems(pairs: readonly Differences[]): Item[] {
  const [first] = pairs;
  const positions = first!.losses.map((_, position) => position);
  const items = positions.flatMap((position): Item[] => [
    { position, space: 0, of: ({ losses }) => losses[position]! },
    ...first!.slices.flatMap((_, space): Item[] => [
      { position, space, of: ({ slices }) => gaveSomethingElse(slices[space]!, position) },
      { position, space, of: ({ slices }) => summedSomethingElse(slices[space]!, position) },
    ]),
  ]);
  return items.filter((item) => pairs.some((pair) => item.of(pair)));
}

function gaveSomethingElse(differs: readonly (readonly boolean[])[], position: number): boolean {
  return differs[position]!.some((isOther, owner) => isOther && owner !== position);
}

/** The position's own slices differ, though what all others gave to them does not. */
function summedSomethingElse(differs: readonly (readonly boolean[])[], position: number): boolean {
  const givenElse = differs.some((owners, other) => other !== position && owners[position]);
  return differs[position]![position]! && !givenElse;
}
