/** Tells whether the communication thread lives, from the pulse that it shows in shared memory. */

import { SluiceError } from '@sluice/core';
import type { SharedState } from './sharedState.ts';

/** Longest silence of the communication thread while something is waited for, ms. */
const SILENCE_MS = 30_000;

/** A longer time between two looks counts as so much, for the whole process may have been suspended, ms. */
const LONGEST_STEP_MS = 2000;

export class ThreadPulse {
  readonly #rank: number;
  readonly #state: SharedState;
  #pulse = Number.NaN;
  #lookedAt = 0;
  #silentMs = 0;

  constructor(rank: number, state: SharedState) {
    this.#rank = rank;
    this.#state = state;
  }

  /** To be called again and again while something is waited for. @throws SLUICE_E_WORKER_FAILED */
  check(): void {
    const now = performance.now();
    const { pulse } = this.#state;
    if (pulse === this.#pulse) this.#silentMs += Math.min(now - this.#lookedAt, LONGEST_STEP_MS);
    else this.#silentMs = 0;
    this.#pulse = pulse;
    this.#lookedAt = now;
    if (this.#silentMs <= SILENCE_MS) return;
    throw new SluiceError(
      'SLUICE_E_WORKER_FAILED',
      `The communication thread of rank ${this.#rank} has not moved for ${SILENCE_MS / 1000} s.`,
    );
  }
}
