/** How long the main thread of a worker has been blocked in collective operations, and by what. */

import type { OperationRecord } from './operationRecord.ts';
import type { OperationName } from './wire.ts';

/** Milliseconds of the system's monotonic clock, the same for all threads of a process. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

/** Seconds since the worker began; whoever wants those of a while takes the difference. */
export interface Blocked {
  /** While a peer had not begun the operation yet. */
  readonly waiting: number;
  /** From then on: bytes moved, sums were added, messages were on their way. */
  readonly moving: number;
}

export class BlockedTime implements Blocked {
  waiting = 0;
  moving = 0;
  /** Where each wait is noted, while somebody wants to know. */
  record: OperationRecord | undefined;

  /**
   * Counts a wait in an operation from `start` to now, monotonic milliseconds.
   * @param begun when the last peer had begun the operation
   */
  count(operation: OperationName, start: number, begun: number): void {
    const end = monotonicMs();
    const waiting = Math.min(Math.max(begun - start, 0), end - start);
    this.waiting += waiting / 1e3;
    this.moving += (end - start - waiting) / 1e3;
    this.record?.wait({ operation, start, begun: start + waiting, end });
  }
}
