/**
 * What the model needs of other workers: tokens sent to the experts that they hold, and the results back. The model
 * knows no processes; the trainer gives it one of these.
 */

import type { Activations, CountArrival, StartExchange } from '@sluice/engine';

export interface ExpertExchange {
  /** Own place among the workers that share one set of experts, and their number. */
  readonly rank: number;
  readonly size: number;
  /**
   * Begins to tell every peer how many rows it will get for each of its experts.
   * @param counts rows for each of all experts, in order of experts
   * @returns rows from each peer for each own expert: [size · own experts], peer-major
   */
  startCounts(counts: Int32Array): CountArrival;
  /** Begins to send rows to their peers and to receive theirs. */
  readonly startRows: StartExchange;
  /** The same from device to device, where the workers' devices are linked. */
  readonly startOnDevice?: StartExchange<Activations> | undefined;
}

/** For a worker that holds all experts: nothing is exchanged. */
export const noExchange: ExpertExchange = {
  rank: 0,
  size: 1,
  startCounts: (counts) => ({ done: true, wait: () => counts }),
  startRows: () => ({ done: true, wait: () => {} }),
};
