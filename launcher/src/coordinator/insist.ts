/** What a run cannot go on without is tried again where the disk does not take it: room is made, and mounts come back. */

import { setTimeout as delay } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';

export interface Patience {
  readonly attempts: number;
  /** Between two of them. */
  readonly pause: () => Promise<unknown>;
}

/** Five minutes. */
const USUAL: Patience = { attempts: 20, pause: () => delay(15_000) };

/** Failures of the disk. */
const UNWRITABLE: ReadonlySet<string> = new Set([
  'SLUICE_E_DISK_FULL',
  'SLUICE_E_FILE_UNWRITABLE',
  'SLUICE_E_FILE_MISSING',
]);

export function isUnwritable(error: unknown): error is SluiceError {
  return error instanceof SluiceError && UNWRITABLE.has(error.code);
}

/**
 * @param onFailure told of each failure of the disk, and which attempt it was ("1 of 20") where another follows; what it throws is
 *   thrown on
 * @throws the last failure, and any other error at once
 */
export async function insist<T>(
  work: () => T | Promise<T>,
  onFailure: (error: SluiceError, attempt: string | undefined) => void,
  { attempts, pause }: Patience = USUAL,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isUnwritable(error)) throw error;
      const isRetried = attempt < attempts;
      onFailure(error, isRetried ? `${attempt} of ${attempts}` : undefined);
      if (!isRetried) throw error;
      await pause();
    }
  }
}
