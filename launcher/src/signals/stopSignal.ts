/**
 * Ctrl-C and SIGTERM: the first asks for an orderly stop after the current step, the second ends everything now. A hang-up
 * asks too, where it is not to be ignored, but is nobody's second word: closing a terminal may send several, and a session
 * that ends sends SIGTERM after them. SIGUSR1 does the same: Slurm sends it before a time limit, to all processes of a job. One that
 * comes before anybody listens is heard all the same (`bin/sluice.js`).
 */

import { hangUpStops } from './hangUp.ts';

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

type HandledSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP' | 'SIGUSR1';

/** The part of `process` that is needed, so that tests can send signals without sending any. */
export interface SignalSource {
  on(signal: HandledSignal, listener: () => void): unknown;
  off(signal: HandledSignal, listener: () => void): unknown;
}

/**
 * Signals this soon after the first are the same one: a terminal sends Ctrl-C to every process of its group, and npm
 * and shells pass it on to their children once more.
 */
const SAME_SIGNAL_MS = 500;

/** Exit code of a command that a signal has ended before it was done, as shells report it. */
export const ABORTED_EXIT_CODE = 130;

let askedBefore: readonly NodeJS.Signals[] = [];

/** @param asked grows with every signal that asks for a stop: the first may come before there is anything to stop */
export function heedSignalsBefore(asked: readonly NodeJS.Signals[]): void {
  askedBefore = asked;
}

/** Whether a signal has asked for a stop, heard by others or by nobody. */
export function wasAskedToStop(): boolean {
  return askedBefore.length > 0;
}

/** Listens to signals; one that came before asks at once, when the caller has what this returns. */
export function installStopSignal(options: {
  readonly source?: SignalSource;
  /** A clock, ms. */
  readonly now?: () => number;
  /** Whether a hang-up asks for a stop. */
  readonly hangUps?: boolean;
  /** Called at the first signal. */
  readonly onRequest: () => void;
  /** Called at the second: must end the process. */
  readonly onAbort: () => void;
}): InstalledStopSignal {
  const source = options.source ?? process;
  const now = options.now ?? (() => performance.now());
  /** When a person or a system asked, which a second time would be meant. */
  let askedAt: number | undefined;
  const stop = {
    requested: false,
    request() {
      if (stop.requested) return;
      askedAt = now();
      begin();
    },
    uninstall() {
      source.off('SIGINT', ask);
      source.off('SIGTERM', ask);
      source.off('SIGHUP', begin);
      source.off('SIGUSR1', begin);
    },
  };
  const begin = () => {
    if (stop.requested) return;
    stop.requested = true;
    options.onRequest();
  };
  const ask = () => {
    if (askedAt !== undefined && now() - askedAt >= SAME_SIGNAL_MS) options.onAbort();
    askedAt ??= now();
    begin();
  };
  source.on('SIGINT', ask);
  source.on('SIGTERM', ask);
  source.on('SIGUSR1', begin);
  if (options.hangUps ?? hangUpStops()) source.on('SIGHUP', begin);
  if (wasAskedToStop()) queueMicrotask(begin);
  return stop;
}
