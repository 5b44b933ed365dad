/** What the kernels of `cuda` do not take, found in a configuration before anything runs on a GPU that may be elsewhere. */

import { SluiceError } from '@sluice/core';
import { BACKENDS, CUDA_SIZES, precisionOn } from '@sluice/engine';
import { activeMixer, type LayerModel, layerModels, type ModelConfig } from '@sluice/model';
import type { RunConfig } from '@sluice/train';

/** A size of a model, and what is wrong with it; undefined where nothing is. */
type Size = readonly [key: string, value: number | undefined, fault: string | undefined];

/** @throws SLUICE_E_CUDA_KERNEL with the key, its value and what there is */
export function validateCudaSizes(config: Pick<RunConfig, 'backend' | 'precision' | 'model'>): void {
  if (config.backend !== 'cuda') return;
  const isHalf = precisionOn(BACKENDS.cuda, config.precision) === 'bf16';
  const sizes = [...modelSizes(config.model, isHalf), ...layerModels(config.model).flatMap(layerSizes)];
  const [key, value, fault] = sizes.find(([, , fault]) => fault !== undefined) ?? [];
  if (fault === undefined) return;
  throw new SluiceError('SLUICE_E_CUDA_KERNEL', `model.${key} is ${value}, but the backend cuda ${fault}.`, {
    details: { key, value },
  });
}

function modelSizes({ experts, ...model }: ModelConfig, isHalf: boolean): Size[] {
  const { rowMultiple } = CUDA_SIZES;
  const row = (key: string, width: number | undefined): Size => {
    const isTaken = !isHalf || (width ?? 0) % rowMultiple === 0;
    const there = `has kernels for multiples of ${rowMultiple} alone with precision bf16; f32 takes any`;
    return [key, width, isTaken ? undefined : there];
  };
  return [
    row('vocabularySize', model.vocabularySize),
    row('hiddenSize', model.hiddenSize),
    row('intermediateSize', model.intermediateSize),
    row('experts.intermediateSize', experts?.intermediateSize),
    row('experts.sharedIntermediateSize', experts?.sharedIntermediateSize),
  ];
}

function layerSizes(layer: LayerModel): Size[] {
  const { headMultiple, mostChannels } = CUDA_SIZES;
  const settings = activeMixer(layer)?.settings;
  if (settings && !('keyDim' in settings)) return [];
  const heads: readonly [string, number][] = settings
    ? [
        ['mixer.keyDim', settings.keyDim],
        ['mixer.valueDim', settings.valueDim],
      ]
    : [['headDim', layer.headDim]];
  const multiple = settings ? 1 : headMultiple;
  return heads.map(([key, channels]): Size => {
    const isTaken = channels % multiple === 0 && channels <= mostChannels;
    const there = multiple === 1 ? 'up to' : `for multiples of ${multiple} up to`;
    return [key, channels, isTaken ? undefined : `has kernels ${there} ${mostChannels} channels`];
  });
}
