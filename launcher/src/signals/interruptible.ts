/** Ctrl-C and SIGTERM during work that begins files: it is given the time to remove them. */

import { SluiceError } from '@sluice/core';
import { watchNpmParent } from './parentWatch.ts';
import { ABORTED_EXIT_CODE, installStopSignal, type SignalSource } from './stopSignal.ts';

/**
 * Runs work that the first signal aborts, and the second ends with the process. It must wait often: while it computes, no
 * signal is seen.
 * @throws SLUICE_E_INTERRUPTED after a signal, whatever the work came to
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
  const unwatch = watchNpmParent(() => stop.request());
  try {
    const result = await work(signal);
    signal.throwIfAborted();
    return result;
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    unwatch();
    stop.uninstall();
  }
}
