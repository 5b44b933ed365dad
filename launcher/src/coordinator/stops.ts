/** Ends of a run that numbers bring about. */

import { SluiceError } from '@sluice/core';
import type { TrainingRun } from './trainingRun.ts';

/** Ends a run whose numbers are not finite. */
export function stopNonFinite(
  { journal, state: { step }, recovery }: TrainingRun,
  message: string,
  facts: { readonly firstStep?: number; readonly [fact: string]: unknown },
): never {
  const { firstStep } = facts;
  journal.note('stop', step, {
    reason: 'nonFinite',
    message,
    ...(firstStep !== undefined && { firstStep }),
  });
  const { text, command } = recovery('usual');
  throw new SluiceError('SLUICE_E_NON_FINITE', `${message} ${text}`, {
    details: { step, ...facts, resume: command },
  });
}
