/** How a blocked main thread looks again and again for what it waits for. */

/** For so long without a pause, since most waits are short, ms. */
export const SPIN_MS = 0.05;

/** Then it sleeps between looks, longer as the wait gets longer: from the shortest that the system keeps to what nobody notices, ms. */
const SLEEP_SHARE = 1 / 16;
const SHORTEST_SLEEP_MS = 0.05;
const LONGEST_SLEEP_MS = 2;

/** From then on heartbeats tell what is waited for, ms. */
export const REPORT_MS = 1000;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Leaves the processor to others for a moment. */
export function rest(waitedMs: number): void {
  const ms = Math.min(Math.max(waitedMs * SLEEP_SHARE, SHORTEST_SLEEP_MS), LONGEST_SLEEP_MS);
  Atomics.wait(sleeper, 0, 0, ms);
}
