/** The blocks of the whole model's tensors, numbered in their canonical order, whoever owns them. */

import { BLOCK_ELEMENTS } from '@sluice/core';
import { type ModelConfig, modelTensors } from '@sluice/model';

export interface BlockLayout {
  /** Number of the first block of each logical tensor, in canonical order. */
  readonly firstBlocks: ReadonlyMap<string, number>;
  readonly count: number;
}

export function blockLayout(model: ModelConfig): BlockLayout {
  const firstBlocks = new Map<string, number>();
  let count = 0;
  for (const { name, size } of modelTensors(model)) {
    firstBlocks.set(name, count);
    count += Math.ceil(size / BLOCK_ELEMENTS);
  }
  return { firstBlocks, count };
}
