/** Tells whether the communication thread lives, from the pulse that it shows in shared memory. */

import { SluiceError } from '@sluice/core';
import { AwakeClock } from './awakeTime.ts';
import type { SharedState } from './sharedState.ts';

/** Longest silence of the communication thread while something is waited for, ms. */
const SILENCE_MS = 30_000;

export class ThreadPulse {
  readonly #rank: number;
  readonly #state: SharedState;
  readonly #silence = new AwakeClock();
  #pulse = Number.NaN;

  constructor(rank: number, state: SharedState) {
    this.#rank = rank;
    this.#state = state;
  }

  /** To be called again and again while something is waited for. @throws SLUICE_E_WORKER_FAILED */
  check(): void {
    const { pulse } = this.#state;
    if (pulse !== this.#pulse) this.#silence.restart();
    this.#pulse = pulse;
    if (this.#silence.look() <= SILENCE_MS) return;
    throw new SluiceError(
      'SLUICE_E_WORKER_FAILED',
      `The communication thread of rank ${this.#rank} has not moved for ${SILENCE_MS / 1000} s.`,
    );
  }
}
