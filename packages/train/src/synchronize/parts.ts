/**
 * Parts of the model that are brought together at different steps (streaming, arXiv 2501.18512), so that no step has to send all of it.
 * Which stage belongs to which part depends on the model alone.
 */

import { type ModelConfig, modelParameters } from '@sluice/model';
import type { SynchronizeConfig } from './config.ts';

/** Stages of a model: the head, the layers, the embedding. */
export function stageCount({ numLayers }: Pick<ModelConfig, 'numLayers'>): number {
  return numLayers + 2;
}

/** The part that each stage belongs to, and the elements of each part: the largest stages are dealt out first, to who has least. */
export function dealParts(model: ModelConfig, parts: number): { partOf: number[]; sizes: number[] } {
  const stages = new Array<number>(stageCount(model)).fill(0);
  for (const { stage, size } of modelParameters(model)) stages[stage]! += size;
  const sizes = new Array<number>(parts).fill(0);
  const partOf = new Array<number>(stages.length).fill(0);
  const largestFirst = [...stages.entries()].sort(([a, sizeA], [b, sizeB]) => sizeB - sizeA || a - b);
  for (const [stage, size] of largestFirst) {
    const part = sizes.indexOf(Math.min(...sizes));
    partOf[stage] = part;
    sizes[part]! += size;
  }
  return { partOf, sizes };
}

/** When the differences of a part begin to travel: after a step. */
export interface Departure {
  readonly part: number;
  readonly step: number;
}

/** The most steps that an exchange may overlap: it is over before the next one begins. */
export function mostOverlap({ everySteps, parts }: Pick<SynchronizeConfig, 'everySteps' | 'parts'>): number {
  return Math.floor(everySteps / parts) - 1;
}

/** The step after which sums travel back: half of those that the exchange overlaps are over. */
export function turnOf({ step }: Departure, overlapSteps: number): number {
  return step + Math.ceil(overlapSteps / 2);
}

/** The parts that are brought together after a step, or whose differences begin to travel then: each every so many steps, evenly apart, and all after the last step of the run. */
export function partsDue(
  step: number,
  lastStep: number | undefined,
  { everySteps, parts }: SynchronizeConfig,
): number[] {
  const all = Array.from({ length: parts }, (_, part) => part);
  if (step === lastStep) return all;
  return all.filter((part) => (step - Math.floor(((part + 1) * everySteps) / parts)) % everySteps === 0);
}
