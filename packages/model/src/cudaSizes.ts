/** What the kernels of `cuda` do not take, found in a configuration before anything runs on a GPU that may be elsewhere. */

import { SluiceError } from '@sluice/core';
import { BACKENDS, CUDA_SIZES, type Precision, precisionOn } from '@sluice/engine';
import type { ModelConfig } from './config.ts';
import { extraChannels } from './controls/index.ts';
import { type LayerModel, layerModels } from './layers.ts';
import { activeMixer } from './mixers/index.ts';

/** A size of a model, and what is wrong with it; undefined where nothing is. */
type Size = readonly [key: string, value: number | undefined, fault: string | undefined];

/** What is to compute a model. */
interface OnBackend {
  readonly backend: string;
  readonly precision?: Precision | undefined;
  readonly model: ModelConfig;
}

/**
 * @param asked losses take a kernel of their own after the last layer, logits none that would not take any vocabulary
 * @throws SLUICE_E_CUDA_KERNEL with the key, its value and what there is
 */
export function validateCudaSizes(
  { backend, precision, model }: OnBackend,
  asked: 'losses' | 'logits' = 'losses',
): void {
  if (backend !== 'cuda') return;
  const isHalf = precisionOn(BACKENDS.cuda, precision) === 'bf16';
  const sizes = [...modelSizes(model, isHalf), ...layerModels(model).flatMap(layerSizes)].filter(
    ([key]) => asked === 'losses' || key !== 'vocabularySize',
  );
  const [key, value, fault] = sizes.find(([, , fault]) => fault !== undefined) ?? [];
  if (fault === undefined) return;
  throw new SluiceError('SLUICE_E_CUDA_KERNEL', `model.${key} is ${value}, but the backend cuda ${fault}.`, {
    details: { key, value },
  });
}

function modelSizes({ experts, ...model }: ModelConfig, isHalf: boolean): Size[] {
  const { rowMultiple, mostExperts } = CUDA_SIZES;
  const count = experts?.count ?? 0;
  const row = (key: string, width: number | undefined): Size => {
    const isTaken = !isHalf || (width ?? 0) % rowMultiple === 0;
    const there = `has kernels for multiples of ${rowMultiple} alone with precision bf16; f32 takes any`;
    return [key, width, isTaken ? undefined : there];
  };
  return [
    row('vocabularySize', model.vocabularySize),
    row('hiddenSize', model.hiddenSize),
    row('intermediateSize', model.intermediateSize),
    ['experts.count', count, count > mostExperts ? `has a kernel for ${mostExperts} at most` : undefined],
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
  const [multiple, extra] = settings ? [1, 0] : [headMultiple, extraChannels(layer)];
  const most = mostChannels - extra;
  return heads.map(([key, channels]): Size => {
    const isTaken = channels % multiple === 0 && channels <= most;
    const there = multiple === 1 ? 'up to' : `for multiples of ${multiple} up to`;
    const beside = extra > 0 ? ` beside the ${extra} of model.controls` : '';
    return [key, channels, isTaken ? undefined : `has kernels ${there} ${most} channels${beside}`];
  });
}
