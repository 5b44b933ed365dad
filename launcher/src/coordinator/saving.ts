/** When a run is saved, and what follows where that is not possible. */

import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import { stopNonFinite } from './stops.ts';
import type { TrainingRun } from './trainRun.ts';

/** How often, and after which pause, the last checkpoint of a run is tried again where the disk does not take it. */
const LAST_SAVE_ATTEMPTS = 20;
const LAST_SAVE_PAUSE_MS = 15_000;

/** @throws SLUICE_E_NON_FINITE where the weights are worth no checkpoint */
export async function save(run: TrainingRun): Promise<void> {
  const { state, checkpoint, observer } = run;
  observer.activity('saving');
  const saved = await checkpoint(state);
  observer.activity(undefined);
  if ('unsound' in saved) {
    const { unsound } = saved;
    stopNonFinite(run, `The weights after step ${state.step} are not worth saving: ${unsound}.`, { unsound });
  }
  observer.saved(state.step, saved.path);
}

/** Saves, or goes on without: the checkpoint before stays, and the next one holds all of this one. */
export async function saveIfPossible(run: TrainingRun): Promise<boolean> {
  try {
    await save(run);
    return true;
  } catch (error) {
    noteFailedSave(run, error, 'Training goes on; the next checkpoint holds this one’s work too.');
    return false;
  }
}

/** Saves what only the workers' memory holds, and waits for a disk that has no room for it. */
export async function saveAtLast(run: TrainingRun): Promise<void> {
  const { attempts = LAST_SAVE_ATTEMPTS, pause = () => delay(LAST_SAVE_PAUSE_MS) } = run.lastSave ?? {};
  for (let attempt = 1; ; attempt++) {
    try {
      return await save(run);
    } catch (error) {
      const tryAgain = `Make room, or mend what is told: trying again (${attempt} of ${attempts}).`;
      noteFailedSave(
        run,
        error,
        attempt < attempts ? tryAgain : 'The work since the last checkpoint is lost.',
      );
      if (attempt >= attempts) throw error;
      await pause();
    }
  }
}

/** Failures of the disk; any other is thrown on. */
const UNWRITABLE: ReadonlySet<string> = new Set([
  'SLUICE_E_DISK_FULL',
  'SLUICE_E_FILE_UNWRITABLE',
  'SLUICE_E_FILE_MISSING',
]);

function noteFailedSave({ state, journal, observer }: TrainingRun, error: unknown, next: string): void {
  observer.activity(undefined);
  if (!(error instanceof SluiceError && UNWRITABLE.has(error.code))) throw error;
  journal.note('saveFailed', state.step, { message: error.message });
  observer.saveFailed(state.step, error.message, next);
}
