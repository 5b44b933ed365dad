/** When a run is given up before its end: a function of its curve alone, so that it is the same wherever it is run. */

/** What makes a run hopeless. */
export interface HopelessRule {
  /** Nats a token. */
  readonly lossBound: number;
  /** Steps over which the mean loss is taken. */
  readonly lastingSteps: number;
  /** No run is judged before this step: warm-up, and the time that a model needs to learn how frequent tokens are. */
  readonly afterStep: number;
}

/**
 * The step after which a run is hopeless: the mean loss of the last `lastingSteps` steps is above the bound, or no number.
 * @param losses of the steps from 1 on; null where a loss was no number
 * @param judged so many first steps are known to have left hope: of a run that goes on, only those behind them are looked at
 * @returns undefined where there is none yet
 */
export function hopelessStep(
  losses: readonly (number | null)[],
  { lossBound, lastingSteps, afterStep }: HopelessRule,
  judged = 0,
): number | undefined {
  for (let step = Math.max(lastingSteps, afterStep, judged + 1); step <= losses.length; step++) {
    const last = losses.slice(step - lastingSteps, step);
    const mean = last.reduce<number>((sum, loss) => sum + (loss ?? Number.NaN), 0) / lastingSteps;
    if (!(mean <= lossBound)) return step;
  }
  return undefined;
}
