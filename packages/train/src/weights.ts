/** Filling the parameters that a trainer holds with given values. */

import type { WeightSource } from '@sluice/checkpoint/huggingface';
import { inParallel } from '@sluice/core';
import { initializeTensor, type LogicalTensor, modelTensors } from '@sluice/model';
import type { RunConfig } from './config.ts';
import type { TrainedSpace } from './gradientPasses.ts';

interface FilledTrainer {
  readonly spaces: readonly TrainedSpace[];
}

/**
 * Has every logical tensor that this worker holds read into its place.
 * @param atOnce parameters that are read at the same time
 */
export async function readWeights(
  { spaces }: FilledTrainer,
  read: (tensor: LogicalTensor, target: Float32Array) => Promise<void>,
  atOnce = 1,
): Promise<void> {
  const parameters = spaces.flatMap(({ space }) => space.parameters.map((placed) => ({ space, placed })));
  await inParallel(parameters, atOnce, async ({ space, placed }) => {
    for (const tensor of placed.spec.tensors)
      await space.fillTensorAsync(placed, tensor, (target) => read(tensor, target));
    placed.parameter.refresh();
  });
}

/**
 * Gives a new trainer the weights of `source`, and what `source` lacks its initial values. Nothing else is taken: moments are
 * zero (but see `keepOptimizer`), and experts count as evenly loaded.
 */
export async function beginFrom(
  source: WeightSource,
  trainer: FilledTrainer,
  { model, seed }: RunConfig,
): Promise<void> {
  const there = new Set(modelTensors(source.model).map(({ name }) => name));
  await readWeights(trainer, async (tensor, target) => {
    if (there.has(tensor.name)) await source.read(tensor.name, target);
    else initializeTensor(tensor, target, model, seed);
  });
}
