/** Learning-rate schedules: pure functions of the step, so that a resumed run needs no state. */

import { elementary } from '@sluice/core';
import type { RunConfig } from './config.ts';

/**
 * Learning rate of an optimizer step.
 * @param step 1 for the first step of the run
 */
export function learningRateAt(
  config: Pick<RunConfig, 'optimizer' | 'schedule' | 'training'>,
  step: number,
): number {
  const { learningRate: peak } = config.optimizer;
  const { warmupSteps, minimumRatio } = config.schedule;
  if (step <= warmupSteps) return (peak * step) / warmupSteps;
  return peak * (minimumRatio + (1 - minimumRatio) * remainingShare(config, step));
}

/** Steps of wsd's decay: as configured, or a tenth of the run, though no more than the warm-up leaves; 0 for no decay. */
function decayStepsOf({ schedule, training }: Pick<RunConfig, 'schedule' | 'training'>): number {
  const most = Math.max(0, training.steps - schedule.warmupSteps);
  return schedule.decaySteps ?? Math.min(Math.ceil(training.steps / 10), most);
}

/** 1 at the end of the warm-up, 0 at the last step, in between as the kind of schedule has it. */
function remainingShare(
  { schedule, training }: Pick<RunConfig, 'schedule' | 'training'>,
  step: number,
): number {
  const { kind, warmupSteps } = schedule;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, training.steps - warmupSteps));
  switch (kind) {
    case 'constant':
      return 1;
    case 'linear':
      return 1 - progress;
    case 'cosine':
      return 0.5 * (1 + elementary.cos(Math.PI * progress));
    case 'wsd': {
      const decaySteps = decayStepsOf({ schedule, training });
      return decaySteps === 0 ? 1 : Math.min(1, (training.steps - step) / decaySteps);
    }
  }
}
