/**
 * The numbers that all workers agree on after a step. Every worker fills in what it computed (zero elsewhere); one
 * all-reduce makes the vector whole; sums are then taken in a fixed order, so they are the same bits everywhere.
 */

import { sharedFloat64 } from '@sluice/collectives';
import { BLOCK_ELEMENTS } from '@sluice/core';
import {
  expertLayers,
  type ModelConfig,
  modelParameters,
  mostAttentionHeads,
  type ParameterGroup,
} from '@sluice/model';
import { type BlockLayout, blockLayout } from './blockLayout.ts';
import type { Topology } from './topology.ts';

export class Agreement {
  readonly #values: Float64Array;
  /** Cross-entropy sum of each grain. */
  readonly crossEntropy: Float64Array;
  /** Auxiliary losses of each grain. */
  readonly auxiliary: Float64Array;
  /** Tokens of each expert, for the layers with experts one after the other. */
  readonly expertCounts: Float64Array;
  /** Sum of squares of each block of the gradient. */
  readonly squares: Float64Array;
  /** Of the update before this step, for each block: squares of how far it moved, and of what it was. */
  readonly moved: Float64Array;
  /**
   * For each layer and head, the largest attention logit that this worker has met; empty where nobody asks. All layers have the
   * places of the one with the most heads; those that are of no head stay −∞.
   */
  readonly largestLogits: Float64Array;
  /** Those of all workers, one after the other. */
  readonly #logitsOfAll: Float64Array;
  readonly blocks: BlockLayout;
  /** For each group of parameters, which blocks its tensors have. */
  readonly #groups: ReadonlyMap<ParameterGroup, readonly BlockRange[]>;

  /** @param logits whether the workers agree on the largest attention logits */
  constructor(model: ModelConfig, grains: number, { rank, size }: Topology, logits: boolean) {
    this.blocks = blockLayout(model);
    this.#groups = blocksOfGroups(model, this.blocks);
    const counts = (model.experts?.count ?? 0) * expertLayers(model).length;
    const heads = logits ? model.numLayers * mostAttentionHeads(model) : 0;
    this.#values = sharedFloat64(2 * grains + counts + 3 * this.blocks.count + size * heads);
    let offset = 0;
    const part = (length: number) => {
      offset += length;
      return this.#values.subarray(offset - length, offset);
    };
    this.crossEntropy = part(grains);
    this.auxiliary = part(grains);
    this.expertCounts = part(counts);
    this.squares = part(this.blocks.count);
    this.moved = part(2 * this.blocks.count);
    this.#logitsOfAll = part(size * heads);
    this.largestLogits = this.#logitsOfAll.subarray(rank * heads, (rank + 1) * heads);
  }

  begin(): void {
    this.#values.fill(0);
    this.largestLogits.fill(Number.NEGATIVE_INFINITY);
  }

  reach(topology: Topology): void {
    makeWhole(this.#values, topology);
  }

  /** For each layer and head, the largest attention logit that any worker has met. */
  agreedLogits(): Float64Array {
    const { length } = this.largestLogits;
    return this.largestLogits.map((_, head) => {
      let largest = Number.NEGATIVE_INFINITY;
      for (let i = head; i < this.#logitsOfAll.length; i += length)
        largest = Math.max(largest, this.#logitsOfAll[i]!);
      return largest;
    });
  }

  /** Norm of the gradient of each group of parameters that the model has. */
  groupNorms(): Partial<Record<ParameterGroup, number>> {
    const norms = [...this.#groups].map(([group, ranges]) => {
      const sum = ranges.reduce(
        (sum, { first, end }) => sum + orderedSum(this.squares.subarray(first, end)),
        0,
      );
      return [group, Math.sqrt(sum)] as const;
    });
    return Object.fromEntries(norms);
  }
}

/** Blocks [first, end). */
interface BlockRange {
  readonly first: number;
  readonly end: number;
}

function blocksOfGroups(
  model: ModelConfig,
  { firstBlocks }: BlockLayout,
): ReadonlyMap<ParameterGroup, readonly BlockRange[]> {
  const groups = new Map<ParameterGroup, BlockRange[]>();
  for (const { group, tensors } of modelParameters(model)) {
    const ranges = groups.get(group) ?? [];
    groups.set(group, ranges);
    for (const { name, size } of tensors) {
      const first = firstBlocks.get(name)!;
      ranges.push({ first, end: first + Math.ceil(size / BLOCK_ELEMENTS) });
    }
  }
  return groups;
}

/** Makes a vector whole of which each worker has filled in its own part; the rest must be zero. */
export function makeWhole(values: Float64Array, { world }: Topology): void {
  if (world.size > 1) world.allReduce(values).wait();
}

/** Sum from first to last: the one order that everybody uses. */
export function orderedSum(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}
