/** What of a run's parameters a worker holds, who holds the same, and in how many forms their gradients are there at once. */

import { modelParameters, type ParameterSpec } from '@sluice/model';
import type { RunConfig } from '../config.ts';
import { paddedSize } from '../flatSpace.ts';

export type Placement = ParameterSpec['placement'];

/** Elements of the parameters of one placement that a worker holds. */
export function heldElements(config: Pick<RunConfig, 'model' | 'parallel'>): Record<Placement, number> {
  const held = { replicated: 0, expert: 0 };
  const shard = { rank: 0, size: config.parallel.expertParallel };
  for (const { placement, size } of modelParameters(config.model, shard)) held[placement] += paddedSize(size);
  return held;
}

/** Workers that hold the same parameters. */
export function replicas({ parallel }: Pick<RunConfig, 'parallel'>): Record<Placement, number> {
  return { replicated: parallel.workers, expert: parallel.workers / parallel.expertParallel };
}

/** Partial sums that live at once: the lanes of a worker are summed by a binary tree. */
export function gradientCopies({ parallel }: RunConfig): number {
  return Math.log2(parallel.lanes / parallel.workers) + 1;
}

/** Bytes of the parameters of each stage that a worker holds. */
export function stageBytes({
  model,
  parallel,
}: Pick<RunConfig, 'model' | 'parallel'>): Record<'replicated' | 'expert', number>[] {
  const bytes = Array.from({ length: model.numLayers + 2 }, () => ({ replicated: 0, expert: 0 }));
  for (const { stage, placement, size } of modelParameters(model, {
    rank: 0,
    size: parallel.expertParallel,
  })) {
    bytes[stage]![placement] += 4 * paddedSize(size);
  }
  return bytes;
}
