/** Where a call of `train` or `resume` stops, if that is before the run is done. */

import { SluiceError } from '@sluice/core';

/** At most one of them is given. */
export interface StopFlags {
  /** A step of the run. */
  readonly untilStep?: number | undefined;
  /** Steps of this call. */
  readonly moreSteps?: number | undefined;
}

/**
 * The last step that a call takes.
 * @param step that the run has come to
 * @param steps of the whole run
 * @throws SLUICE_E_USAGE for a step that the run has passed
 */
export function lastStepOf({ untilStep, moreSteps }: StopFlags, step: number, steps: number): number {
  if (untilStep !== undefined && untilStep <= step) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `--until-step is ${untilStep}, but the run is at step ${step} already; for more steps write --more-steps N.`,
      { details: { untilStep, step } },
    );
  }
  return Math.min(steps, untilStep ?? step + (moreSteps ?? steps));
}

/** What is to be said where more steps are asked for than the run has. */
export function beyondTheEnd({ untilStep, moreSteps }: StopFlags, step: number, steps: number): string[] {
  const asked = untilStep ?? (moreSteps === undefined ? undefined : step + moreSteps);
  if (asked === undefined || asked <= steps) return [];
  const flag = untilStep === undefined ? `--more-steps ${moreSteps}` : `--until-step ${untilStep}`;
  return [
    `${flag}: the run ends at its step ${steps} (training.steps); a run is made longer by --set training.steps=N, and one that is resumed by --allow training.steps besides`,
  ];
}
