/** What of a worker's memory is a GPU's, and what the host's beside it, from what `GradientMemory` and the link between GPUs take. */

import { modelParameters } from '@sluice/model';
import type { RunConfig } from '../config.ts';
import { paddedSize } from '../flatSpace.ts';
import { gradientCopies, heldElements, replicas } from './held.ts';

/** Bytes of partial sums of gradients, by where they lie. */
export interface PlacedGradients {
  readonly onDevice: number;
  readonly onHost: number;
}

/**
 * Where partial sums lie, as `GradientSums` asks for memory: those of the first lane, source after source, and then level after level.
 * @param bytesLeft of a device, beside parameters, moments and what passes need; as many as are wanted when left out
 */
export function placeGradients(config: RunConfig, bytesLeft = Number.POSITIVE_INFINITY): PlacedGradients {
  const { gradientMiB, expertParallel } = config.parallel;
  const held = heldElements(config);
  const spaces = [
    { bytes: 4 * held.replicated, sources: 1 },
    ...(config.model.experts ? [{ bytes: 4 * held.expert, sources: expertParallel }] : []),
  ];
  let room = gradientMiB === undefined ? bytesLeft : gradientMiB * 2 ** 20;
  const placed = { onDevice: 0, onHost: 0 };
  const place = (bytes: number, isNeeded: boolean) => {
    const fits = bytes <= room;
    if (fits || isNeeded) placed.onDevice += bytes;
    else placed.onHost += bytes;
    if (fits) room -= bytes;
  };
  for (const { bytes, sources } of spaces)
    for (let source = 0; source < sources; source++) place(bytes, source === 0);
  for (let level = 1; level < gradientCopies(config); level++)
    for (const { bytes, sources } of spaces) place(bytes * sources, false);
  return placed;
}

/**
 * What arrives of a stage's gradients from the other workers, to be added up; where it travels in bfloat16, also what is sent and what
 * arrives in that form. NCCL's own buffers are not known.
 */
export function linkBytes(config: RunConfig): number {
  const shared = replicas(config);
  const stages = new Map<string, number>();
  const shard = { rank: 0, size: config.parallel.expertParallel };
  for (const { placement, stage, size } of modelParameters(config.model, shard)) {
    const workers = shared[placement];
    const name = `${placement} ${stage}`;
    const arriving = (paddedSize(size) * (workers - 1)) / workers;
    stages.set(name, (stages.get(name) ?? 0) + arriving);
  }
  const bytes = config.parallel.gradients === 'bfloat16' ? 4 + 2 + 2 : 4;
  return bytes * Math.max(...stages.values());
}
