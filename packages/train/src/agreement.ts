/**
 * The numbers that all workers agree on after a step. Every worker fills in what it computed (zero elsewhere); one
 * all-reduce makes the vector whole; sums are then taken in a fixed order, so they are the same bits everywhere.
 */

import { sharedFloat64 } from '@sluice/collectives';
import { BLOCK_ELEMENTS } from '@sluice/core';
import { type ModelConfig, modelTensors } from '@sluice/model';
import type { Topology } from './topology.ts';

export class Agreement {
  readonly #values: Float64Array;
  /** Cross-entropy sum of each grain. */
  readonly crossEntropy: Float64Array;
  /** Auxiliary losses of each grain. */
  readonly auxiliary: Float64Array;
  /** Tokens of each expert, layer after layer. */
  readonly expertCounts: Float64Array;
  /** Sum of squares of each block of the gradient, in the canonical order of tensors. */
  readonly squares: Float64Array;
  /** Number of the first block of each logical tensor. */
  readonly firstBlocks: ReadonlyMap<string, number>;

  constructor(model: ModelConfig, grains: number) {
    const firstBlocks = new Map<string, number>();
    let blocks = 0;
    for (const tensor of modelTensors(model)) {
      firstBlocks.set(tensor.name, blocks);
      blocks += Math.ceil(tensor.size / BLOCK_ELEMENTS);
    }
    this.firstBlocks = firstBlocks;
    const counts = (model.experts?.count ?? 0) * model.numLayers;
    this.#values = sharedFloat64(2 * grains + counts + blocks);
    let offset = 0;
    const part = (length: number) => {
      offset += length;
      return this.#values.subarray(offset - length, offset);
    };
    this.crossEntropy = part(grains);
    this.auxiliary = part(grains);
    this.expertCounts = part(counts);
    this.squares = part(blocks);
  }

  begin(): void {
    this.#values.fill(0);
  }

  /** Makes the vector whole. */
  reach({ world }: Topology): void {
    if (world.size > 1) world.allReduce(this.#values).wait();
  }
}

/** Sum from first to last: the one order that everybody uses. */
export function orderedSum(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}
