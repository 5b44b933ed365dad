/** When a run is saved, and what follows where that is not possible. */

import { SluiceError } from '@sluice/core';
import { insist, isUnwritable } from './insist.ts';
import { stopNonFinite } from './stops.ts';
import type { TrainingRun } from './trainingRun.ts';

/** @throws SLUICE_E_NON_FINITE where the weights are worth no checkpoint */
export async function save(run: TrainingRun): Promise<void> {
  const { state, checkpoint, observer } = run;
  const begun = performance.now();
  observer.saveRequested(state.step);
  observer.activity('saving');
  const saved = await checkpoint(state);
  observer.activity(undefined);
  if ('unsound' in saved) refuseUnsound(run, saved.unsound);
  observer.saved(state.step, saved.path, (performance.now() - begun) / 1000);
}

/** @throws SLUICE_E_NON_FINITE */
export function refuseUnsound(run: TrainingRun, unsound: string): never {
  return stopNonFinite(run, `The weights after step ${run.state.step} are not worth saving: ${unsound}.`, {
    unsound,
  });
}

/**
 * Saves, or goes on without: the checkpoint before stays, and the next one holds all of this one.
 * @throws SLUICE_E_SAVE_FAILED where the run is not to go on without
 */
export async function saveIfPossible(run: TrainingRun): Promise<boolean> {
  try {
    await save(run);
    return true;
  } catch (error) {
    run.observer.activity(undefined);
    if (!isUnwritable(error)) throw error;
    const { message } = error;
    const next = 'Training goes on; the next checkpoint holds this one’s work too.';
    noteFailedSave(run, run.state.step, { message, next });
    if (run.config.checkpoint.onFailure === 'stop') throw saveFailedForGood(run.state.step, message);
    return false;
  }
}

/** Saves what only the workers' memory holds, and waits for a disk that has no room for it. */
export function saveAtLast(run: TrainingRun): Promise<void> {
  const note = ({ message }: SluiceError, attempt: string | undefined) => {
    run.observer.activity(undefined);
    const next =
      attempt === undefined
        ? 'The work since the last checkpoint is lost.'
        : `Make room, or mend what is told: trying again (${attempt}).`;
    noteFailedSave(run, run.state.step, { message, next, isRetried: attempt !== undefined });
  };
  return insist(() => save(run), note, run.lastSave);
}

/** @param failure.next what follows from it, as a sentence */
export function noteFailedSave(
  { journal, observer }: Pick<TrainingRun, 'journal' | 'observer'>,
  step: number,
  { message, next, isRetried = false }: { message: string; next: string; isRetried?: boolean },
): void {
  journal.note('saveFailed', step, { message, ...(isRetried && { isRetried }) });
  observer.saveFailed(step, message, next);
}

export function saveFailedForGood(step: number, message: string): SluiceError {
  return new SluiceError(
    'SLUICE_E_SAVE_FAILED',
    `Step ${step} could not be saved: ${message} The run stops, as checkpoint.onFailure says.`,
    { details: { step, reason: message } },
  );
}
