/** Ctrl-C and SIGTERM: the first asks for an orderly stop after the current step, the second ends everything now. */

export interface StopSignal {
  /** Whether an orderly stop was asked for. */
  readonly requested: boolean;
}

export interface InstalledStopSignal extends StopSignal {
  /** Asks for an orderly stop, as the first signal does. */
  request(): void;
  /** Gives the signals their usual meaning back. */
  uninstall(): void;
}

/** The part of `process` that is needed, so that tests can send signals without sending any. */
export interface SignalSource {
  on(signal: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
  off(signal: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
}

/**
 * Signals this soon after the first are the same one: a terminal sends Ctrl-C to every process of its group, and npm
 * and shells pass it on to their children once more.
 */
const SAME_SIGNAL_MS = 500;

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** Exit code of a command that a signal has ended before it was done, as shells report it. */
export const ABORTED_EXIT_CODE = 130;

export function installStopSignal(options: {
  readonly source?: SignalSource;
  /** A clock, ms. */
  readonly now?: () => number;
  /** Called at the first signal. */
  readonly onRequest: () => void;
  /** Called at the second: must end the process. */
  readonly onAbort: () => void;
}): InstalledStopSignal {
  const source = options.source ?? process;
  const now = options.now ?? (() => performance.now());
  let requestedAt = 0;
  const stop = {
    requested: false,
    request() {
      if (stop.requested) return;
      stop.requested = true;
      requestedAt = now();
      options.onRequest();
    },
    uninstall() {
      for (const signal of SIGNALS) source.off(signal, listener);
    },
  };
  const listener = () => {
    if (!stop.requested) stop.request();
    else if (now() - requestedAt >= SAME_SIGNAL_MS) options.onAbort();
  };
  for (const signal of SIGNALS) source.on(signal, listener);
  return stop;
}
