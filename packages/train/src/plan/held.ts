/** What of a run's parameters a worker holds, who holds the same, and in how many forms their gradients are there at once. */

import { BACKENDS, precisionOn } from '@sluice/engine';
import { modelParameters, type ParameterSpec } from '@sluice/model';
import type { RunConfig } from '../config.ts';
import { paddedSize } from '../flatValues.ts';

export type Placement = ParameterSpec['placement'];

type Held = Pick<RunConfig, 'model' | 'parallel'>;
type Computing = Pick<RunConfig, 'backend' | 'precision'>;

/** Elements of the parameters of one placement that a worker holds. */
export function heldElements(
  config: Held,
  isCounted: (spec: ParameterSpec) => boolean = () => true,
): Record<Placement, number> {
  const held = { replicated: 0, expert: 0 };
  const shard = { rank: 0, size: config.parallel.expertParallel };
  for (const spec of modelParameters(config.model, shard))
    if (isCounted(spec)) held[spec.placement] += paddedSize(spec.size);
  return held;
}

/** Whether activations are bf16, and with them what passes read of weights. */
export function areSomeRounded({ backend, precision }: Computing): boolean {
  return precisionOn(BACKENDS[backend], precision) === 'bf16';
}

/** Those that every worker has in bf16, and in single precision who owns them. */
export function roundedElements(config: Held & Computing): Record<Placement, number> {
  return heldElements(config, ({ readIn }) => areSomeRounded(config) && readIn === 'activations');
}

/** Bytes of what passes read, which every worker that holds it has, and gets after an update. */
export function valueBytes(config: Held & Computing): Record<Placement, number> {
  const [held, rounded] = [heldElements(config), roundedElements(config)];
  const of = (placement: Placement) => 4 * held[placement] - 2 * rounded[placement];
  return { replicated: of('replicated'), expert: of('expert') };
}

/** Workers that hold the same parameters. */
export function replicas({ parallel }: Pick<RunConfig, 'parallel'>): Record<Placement, number> {
  return { replicated: parallel.workers, expert: parallel.workers / parallel.expertParallel };
}

/** Partial sums that live at once: the lanes of a worker are summed by a binary tree. */
export function gradientCopies({ parallel }: RunConfig): number {
  return Math.log2(parallel.lanes / parallel.workers) + 1;
}

/** Bytes of a stage's parameters: their gradients, and their values in bf16 and in single precision. */
export interface StageBytes {
  readonly gradients: number;
  readonly rounded: number;
  readonly single: number;
}

/** Of each stage, what a worker holds. */
export function stageBytes(config: Held & Computing): Record<Placement, StageBytes>[] {
  const { model, parallel } = config;
  const none = () => ({ gradients: 0, rounded: 0, single: 0 });
  const bytes = Array.from({ length: model.numLayers + 2 }, () => ({ replicated: none(), expert: none() }));
  const shard = { rank: 0, size: parallel.expertParallel };
  for (const { stage, placement, size, readIn } of modelParameters(model, shard)) {
    const of = bytes[stage]![placement];
    of.gradients += 4 * paddedSize(size);
    if (areSomeRounded(config) && readIn === 'activations') of.rounded += 2 * paddedSize(size);
    else of.single += 4 * paddedSize(size);
  }
  return bytes;
}
