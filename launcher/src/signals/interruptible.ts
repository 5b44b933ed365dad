/** Ctrl-C, SIGTERM and hang-ups during work that begins files: it is given the time to remove them. */

import { SluiceError } from '@sluice/core';
import { watchParent } from './parentWatch.ts';
import { ABORTED_EXIT_CODE, installStopSignal, type SignalSource } from './stopSignal.ts';

/**
 * Runs work that the first signal aborts, and the second ends with the process. It must wait often: while it computes, no
 * signal is seen. Where more is to follow, it asks the signal at its end as well.
 * @returns what the work came to, if it came to its end all the same
 * @throws SLUICE_E_INTERRUPTED in place of the error of work that was aborted
 */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  source: SignalSource = process,
): Promise<T> {
  const controller = new AbortController();
  const { signal } = controller;
  const stop = installStopSignal({
    source,
    onRequest: () => controller.abort(new SluiceError('SLUICE_E_INTERRUPTED', 'Interrupted by a signal.')),
    onAbort: () => process.exit(ABORTED_EXIT_CODE),
  });
  const unwatch = watchParent(() => stop.request());
  try {
    return await work(signal);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    unwatch();
    stop.uninstall();
  }
}
