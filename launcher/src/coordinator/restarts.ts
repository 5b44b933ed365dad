/** Whether a run goes on after a fault: as long as it gets on, and as long as the fault may be chance. */

import { isDeepStrictEqual } from 'node:util';
import { SluiceError } from '@sluice/core';
import type { RunConfig } from '@sluice/train';

/** Faults of processes, machines and networks, after which the same work may well succeed. */
const PASSING: ReadonlySet<string> = new Set([
  'SLUICE_E_WORKER_DIED',
  'SLUICE_E_WORKER_LOST',
  'SLUICE_E_WORKER_FAILED',
  'SLUICE_E_WORKER_TIMEOUT',
  'SLUICE_E_COLLECTIVE_TIMEOUT',
  'SLUICE_E_NCCL',
  'SLUICE_E_HOSTS_APART',
  'SLUICE_E_OUT_OF_MEMORY',
]);

/** Whether it is a fault of what the run runs on, and not of what it computes or was asked. */
export function isFault({ code, details }: SluiceError): boolean {
  // A GPU that has failed computes nothing more for the same process.
  const isOfDevice = code === 'SLUICE_E_CUDA' && details.isOfDevice === true;
  return isOfDevice || PASSING.has(code) || code === 'SLUICE_E_FAULT_REPEATED';
}

/** How somebody else ends a process: the kernel for memory, a scheduler, a person. */
const OUTSIDE_SIGNALS: ReadonlySet<unknown> = new Set(['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']);

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

export class Restarts {
  readonly #config: RunConfig['faults'];
  /** Step of the newest checkpoint at the last fault. */
  #savedStep = -1;
  /** Faults since there was a newer checkpoint. */
  #inARow = 0;
  #lastCause: unknown;

  constructor(config: RunConfig['faults']) {
    this.#config = config;
  }

  /**
   * Counts a fault.
   * @param step the step that was to be taken
   * @param savedStep of the newest checkpoint; −1 when there is none
   * @returns how long to wait before the next try, ms
   * @throws the fault itself where nothing can be expected of another try; SLUICE_E_FAULT_REPEATED
   */
  allow(fault: unknown, step: number, savedStep: number): number {
    if (!(fault instanceof SluiceError && isFault(fault))) throw fault;
    if (this.#config.policy === 'stop') throw fault;
    const cause = causeOf(fault, step);
    if (cause !== undefined && isDeepStrictEqual(cause, this.#lastCause)) {
      throw repeated(fault, `The same fault came twice at step ${step}, so it is not chance`);
    }
    this.#lastCause = cause;
    this.#inARow = savedStep > this.#savedStep ? 1 : this.#inARow + 1;
    this.#savedStep = savedStep;
    if (this.#inARow > this.#config.maxRestarts) {
      throw repeated(
        fault,
        `${this.#inARow} faults came without a new checkpoint between them (faults.maxRestarts is ${this.#config.maxRestarts})`,
      );
    }
    return this.#inARow === 1 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** (this.#inARow - 2), LONGEST_PAUSE_MS);
  }
}

/** What must be equal for two faults to be one; undefined for one that comes from outside, and may come at any step. */
function causeOf({ code, message, details }: SluiceError, step: number): unknown {
  switch (code) {
    case 'SLUICE_E_WORKER_DIED': {
      const { rank, exitCode, signal } = details;
      return OUTSIDE_SIGNALS.has(signal) ? undefined : { code, step, rank, exitCode, signal };
    }
    case 'SLUICE_E_WORKER_FAILED':
    case 'SLUICE_E_OUT_OF_MEMORY':
      return { code, step, message };
    case 'SLUICE_E_CUDA':
      // Which call is told of it is chance.
      return { code, step, result: details.result };
    default:
      return undefined;
  }
}

function repeated(fault: SluiceError, why: string): SluiceError {
  return new SluiceError('SLUICE_E_FAULT_REPEATED', `${why}: ${fault.message}`, {
    details: { ...fault.details, fault: fault.code },
    cause: fault,
  });
}
