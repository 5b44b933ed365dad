/** How much the last step of a saved run moved its weights, from its checkpoint alone: the same bits as while it trained. */

import type { CheckpointReader } from '@sluice/checkpoint';
import { parseConfig } from '@sluice/core';
import { ModelConfig, modelParameters } from '@sluice/model';
import { z } from 'zod';
import { OptimizerConfig } from '../config.ts';
import { tensorSettings } from '../optimizer/settings.ts';
import type { TrainerState } from '../trainerState.ts';
import type { UpdateRatios } from './summary.ts';
import { UpdateMeter } from './updates.ts';

/** The size of an update, or why there is none. */
export type SavedUpdate = { readonly ratios: UpdateRatios } | { readonly missing: string };

/** What the arithmetic needs of the configuration that a run was saved with. */
const SavedConfig = z.looseObject({ model: ModelConfig, optimizer: OptimizerConfig });

/**
 * Reads one tensor with its moments after the other, so that memory stays near the largest.
 * @throws SLUICE_E_CHECKPOINT_DAMAGED
 */
export async function measureSavedUpdate(reader: CheckpointReader): Promise<SavedUpdate> {
  const { kinds, state, step, config } = reader.manifest;
  if (!kinds.includes('firstMoment'))
    return { missing: 'an imported checkpoint holds no moments of an optimizer' };
  if (step === 0) return { missing: 'no step was taken' };
  const { taken, update, keptSteps = 0 } = state.worker as unknown as TrainerState;
  if (!taken) return { missing: `it notes no applied update of step ${step}` };
  if (update) return { ratios: update };

  const { model, optimizer } = parseConfig(config, SavedConfig, reader.directory);
  const meter = new UpdateMeter(model, optimizer, { ...taken, step: taken.step + keptSteps });
  for (const spec of modelParameters(model)) {
    for (const tensor of spec.tensors) {
      const read = async (kind: (typeof kinds)[number]) => {
        const target = new Float32Array(tensor.size);
        await reader.readRange(kind, tensor.name, 0, tensor.size, target);
        return target;
      };
      meter.add({
        tensor,
        begin: 0,
        values: await read('parameter'),
        moments: { firstMoment: await read('firstMoment'), secondMoment: await read('secondMoment') },
        settings: tensorSettings(optimizer, spec),
      });
    }
  }
  return { ratios: meter.ratios() };
}
