/** Steps whose pace the estimate rests on. */
const WINDOW_STEPS = 100;

/**
 * Estimates the time left from the pace of the last steps, by the wall clock: validations and saves between steps
 * are in it, the start-up before the first step is not.
 */
export class StepClock {
  readonly #ticks: { step: number; seconds: number }[] = [];
  readonly #workThrough: (step: number) => number;

  /** @param workThrough what all the steps up to one are worth, in any unit, where not all are worth the same */
  constructor(workThrough = (step: number) => step) {
    this.#workThrough = workThrough;
  }

  /** Says that `step` has ended at `seconds` (of any clock that only goes forward). */
  tick(step: number, seconds: number): void {
    const last = this.#ticks.at(-1);
    // After a roll-back the steps start again from an earlier one.
    if (last !== undefined && step <= last.step) this.#ticks.length = 0;
    this.#ticks.push({ step, seconds });
    if (this.#ticks.length > WINDOW_STEPS + 1) this.#ticks.shift();
  }

  /** Mean wall-clock seconds of a step; undefined before the second step. */
  get secondsPerStep(): number | undefined {
    const first = this.#ticks[0];
    const last = this.#ticks.at(-1);
    if (first === undefined || last === undefined || last.step === first.step) return undefined;
    return (last.seconds - first.seconds) / (last.step - first.step);
  }

  /**
   * Seconds from `now` until `totalSteps` have been taken; undefined before the second step, never negative.
   * Time that has gone by since the last step counts against the next one.
   */
  secondsLeft(totalSteps: number, now?: number): number | undefined {
    const first = this.#ticks[0];
    const last = this.#ticks.at(-1);
    if (first === undefined || last === undefined || last.step === first.step) return undefined;
    if (totalSteps <= last.step) return 0;
    const secondsOf = (from: number, to: number) =>
      ((last.seconds - first.seconds) * this.#workBetween(from, to)) /
      this.#workBetween(first.step, last.step);
    const next = secondsOf(last.step, last.step + 1);
    const sinceLast = now === undefined ? 0 : Math.min(next, Math.max(0, now - last.seconds));
    return secondsOf(last.step, totalSteps) - sinceLast;
  }

  #workBetween(from: number, to: number): number {
    return this.#workThrough(to) - this.#workThrough(from);
  }
}
