/** Tells where the time of a step goes. Nothing that is trained depends on it. */

import type { Blocked } from '@sluice/collectives';
import type { StepSeconds } from './protocol.ts';

interface Moment extends Blocked {
  readonly now: number;
}

export class StopWatch {
  readonly #blocked: Blocked;
  #start: Moment;
  #last: Moment;
  #compute = 0;
  #optimize = 0;

  /** @param blocked counts how long this thread is blocked by its peers */
  constructor(blocked: Blocked) {
    this.#blocked = blocked;
    this.#start = this.#last = this.#moment();
  }

  restart(): void {
    this.#start = this.#last = this.#moment();
    this.#compute = this.#optimize = 0;
  }

  /** The time since the last stop was computation, but for what this thread was blocked. */
  computed(): void {
    this.#compute += this.#lap();
  }

  /** The same, for the update of the weights and what it needs. */
  optimized(): void {
    this.#optimize += this.#lap();
  }

  /** From the restart to the last stop. */
  seconds(): StepSeconds {
    return {
      total: this.#last.now - this.#start.now,
      compute: this.#compute,
      waiting: this.#last.waiting - this.#start.waiting,
      communicate: this.#last.moving - this.#start.moving,
      optimize: this.#optimize,
    };
  }

  #lap(): number {
    const before = this.#last;
    this.#last = this.#moment();
    const blocked = this.#last.waiting - before.waiting + (this.#last.moving - before.moving);
    return this.#last.now - before.now - blocked;
  }

  #moment(): Moment {
    const { waiting, moving } = this.#blocked;
    return { now: performance.now() / 1000, waiting, moving };
  }
}
