/** Learning-rate schedules: pure functions of the step, so that a resumed run needs no state. */

import { elementary } from '@sluice/core';
import { type BatchSettings, samplesBefore } from './batchSizes.ts';
import type { RunConfig } from './config.ts';

type Scheduled = Pick<RunConfig, 'schedule' | 'training'> & BatchSettings;

/**
 * Learning rate of an optimizer step.
 * @param step 1 for the first step of the run
 */
export function learningRateAt(config: Scheduled & Pick<RunConfig, 'optimizer'>, step: number): number {
  const { learningRate: peak } = config.optimizer;
  const { warmupSteps, minimumRatio } = config.schedule;
  if (step <= warmupSteps) return (peak * lengthOf(config, step)) / lengthOf(config, warmupSteps);
  return peak * (minimumRatio + (1 - minimumRatio) * remainingShare(config, step));
}

/** How far a run has come after a step, in the schedule's unit: steps, or sequences, of which all have as many tokens. */
function lengthOf(config: Scheduled, step: number): number {
  return config.schedule.unit === 'steps' ? step : samplesBefore(config, step + 1);
}

/** Steps of wsd's decay: as configured, or a tenth of the run, though no more than the warm-up leaves; 0 for no decay. */
export function decayStepsOf({ schedule, training }: Pick<RunConfig, 'schedule' | 'training'>): number {
  const most = Math.max(0, training.steps - schedule.warmupSteps);
  return schedule.decaySteps ?? Math.min(Math.ceil(training.steps / 10), most);
}

/** 1 at the end of the warm-up, 0 at the last step, in between as the kind of schedule has it. */
function remainingShare(config: Scheduled, step: number): number {
  const { schedule, training } = config;
  switch (schedule.kind) {
    case 'constant':
      return 1;
    case 'linear':
      return 1 - progress(config, step, schedule.warmupSteps);
    case 'cosine':
      return halfCosine(progress(config, step, schedule.warmupSteps));
    case 'wsd': {
      const begin = training.steps - decayStepsOf(config);
      return step <= begin ? 1 : decayedShare(config, step, begin);
    }
  }
}

/** What is left of the rate in a decay that begins after the step `begin` (Hägele et al., arXiv 2405.18392, for `sqrt`). */
function decayedShare(config: Scheduled, step: number, begin: number): number {
  const end = config.training.steps;
  switch (config.schedule.decayShape ?? 'linear') {
    case 'linear':
      return lengthBetween(config, step, end) / lengthBetween(config, begin, end);
    case 'sqrt':
      return 1 - Math.sqrt(progress(config, step, begin));
    case 'cosine':
      return halfCosine(progress(config, step, begin));
  }
}

/** The part that is over of what lies between the step `begin` and the end of the run. */
function progress(config: Scheduled, step: number, begin: number): number {
  const whole = lengthBetween(config, begin, config.training.steps);
  return Math.min(1, lengthBetween(config, begin, step) / Math.max(1, whole));
}

function lengthBetween(config: Scheduled, begin: number, end: number): number {
  return lengthOf(config, end) - lengthOf(config, begin);
}

/** From 1 down to 0. */
function halfCosine(progress: number): number {
  return 0.5 * (1 + elementary.cos(Math.PI * progress));
}
