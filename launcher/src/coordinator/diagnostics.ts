/** Has the workers measure the model at the configured steps, and keeps what they found. */

import type { DiagnosticsRecord } from '@sluice/observe';
import type { RunConfig } from '@sluice/train';
import type { AfterStep } from './trainingRun.ts';
import { isDue } from './trainRun.ts';
import { agreed } from './workers.ts';

/** Sequences that are measured where the configuration says nothing: no more than the batch has, so that they cost little. */
const MOST_SEQUENCES = 8;

/** @param keep gets each measurement, in order of steps */
export function diagnosticsAfterStep(
  { diagnostics: { everySteps, ...diagnostics }, batch, training }: RunConfig,
  keep: (record: DiagnosticsRecord) => void,
): AfterStep {
  const sequences = diagnostics.sequences ?? Math.min(MOST_SEQUENCES, batch.sequences);
  return async ({ workers, observer }, { result: { step } }) => {
    const isLast = everySteps > 0 && step === training.steps;
    if (!isDue(everySteps, step) && !isLast) return;
    observer.activity('measuring');
    const answers = await workers.call('diagnose', { sequences });
    const fields = Object.keys(answers[0]!) as (keyof (typeof answers)[number])[];
    keep({ step, ...agreed(`the diagnostics after step ${step}`, answers, fields) });
    observer.activity(undefined);
  };
}
