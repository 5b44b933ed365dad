/** How much the last step of a saved run moved its weights, as its checkpoint has it. */

import type { CheckpointReader } from '@sluice/checkpoint';
import type { TrainerState } from '../trainerState.ts';
import { revivedRatios, type UpdateRatios } from '../updateSizes.ts';

/** The size of an update, or why there is none. */
export type SavedUpdate = { readonly ratios: UpdateRatios } | { readonly missing: string };

export function measureSavedUpdate({ manifest }: CheckpointReader): SavedUpdate {
  const { kinds, state, step } = manifest;
  if (!kinds.includes('firstMoment'))
    return { missing: 'an imported checkpoint holds no moments of an optimizer' };
  if (step === 0) return { missing: 'no step was taken' };
  const { taken, update } = state.worker as unknown as TrainerState;
  if (!taken) return { missing: `it notes no applied update of step ${step}` };
  if (!update) return { missing: 'it is of a version that did not note the size of its last update' };
  return { ratios: revivedRatios(update) };
}
