/** What times of collective operations come to. */

import type { BenchRequest, BenchResult } from './measureOperation.ts';
import type { TransportKind } from './zeromqTransport.ts';

export interface CollectivesBenchReport extends BenchRequest {
  readonly world: number;
  readonly transport: TransportKind;
  /** Of operations as long as their ranks took on the mean. */
  readonly medianMs: number;
  readonly minMs: number;
  /** Of the median operation, mean of the ranks: until the last of them had begun it, and from then on. */
  readonly waitingMs: number;
  readonly movingMs: number;
  /** Processor time that a rank spends on an operation, mean of the ranks, median of the operations: what other work on the machine disturbs least. */
  readonly cpuMs: number;
  /**
   * (N − 1) / N × bytes / median time, of an all-reduce twice that: what each rank must move, whatever the algorithm; 10^9 bytes a
   * second.
   */
  readonly busGBps: number;
}

/** Operations, and how many of the first ones are not counted. */
export const [ITERATIONS, WARM_UP] = [12, 2];

/** What the ranks' times come to. */
export function benchReport(
  results: readonly BenchResult[],
  { operation, mib, iterations, transport }: BenchRequest & Pick<CollectivesBenchReport, 'transport'>,
): CollectivesBenchReport {
  const world = results.length;
  const counted = meanOfRanks(results.map(({ total }) => total));
  const medianMs = median(counted);
  const waitingMs = meanOfRanks(results.map(({ waiting }) => waiting))[counted.indexOf(medianMs)]!;
  const cpuMs = median(meanOfRanks(results.map(({ cpu }) => cpu)));
  const bytes = mib * 2 ** 20;
  const passes = operation === 'allReduce' ? 2 : 1;
  return {
    ...{ operation, world, mib, transport, iterations },
    ...{ medianMs, minMs: Math.min(...counted), waitingMs, movingMs: medianMs - waitingMs, cpuMs },
    busGBps: (passes * (world - 1) * bytes) / world / (medianMs * 1e6),
  };
}

/** For each operation that counts. */
function meanOfRanks(ofRanks: readonly (readonly number[])[]): number[] {
  return ofRanks[0]!
    .map((_, i) => ofRanks.reduce((sum, each) => sum + each[i]!, 0) / ofRanks.length)
    .slice(WARM_UP);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
