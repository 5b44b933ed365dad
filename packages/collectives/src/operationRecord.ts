/** What the operations of one worker did in a while, for a timeline. Moments are milliseconds of the system's monotonic clock. */

import { type CollectiveArray, type ElementRange, type FloatWire, wireBytes } from './arrays.ts';
import type { OperationName } from './wire.ts';

/** An operation, from when the main thread launched it. */
export interface OperationSpan {
  readonly name: OperationName;
  /** World ranks that take part. */
  readonly group: readonly number[];
  /** That this rank sends to others. */
  readonly bytes: number;
  readonly launched: number;
  /** When the last peer was first heard of in it; −∞ where no peer had to be. */
  begun: number;
  /** Infinite while it has not ended. */
  ended: number;
}

/** A while for which the main thread was blocked in an operation. */
export interface WaitSpan {
  readonly operation: OperationName;
  readonly start: number;
  /** From when on all peers were there. */
  readonly begun: number;
  readonly end: number;
}

/** More than a step has, but for one of a great many layers and grains. */
const MOST_SPANS = 50_000;

export class OperationRecord {
  readonly operations: OperationSpan[] = [];
  readonly waits: WaitSpan[] = [];
  /** Spans that there was no room for. */
  dropped = 0;

  launch(name: OperationName, group: readonly number[], bytes: number, launched: number): OperationSpan {
    const span = {
      ...{ name, group, bytes, launched },
      begun: Number.NEGATIVE_INFINITY,
      ended: Number.POSITIVE_INFINITY,
    };
    if (this.operations.length < MOST_SPANS) this.operations.push(span);
    else this.dropped++;
    return span;
  }

  wait(span: WaitSpan): void {
    if (this.waits.length < MOST_SPANS) this.waits.push(span);
    else this.dropped++;
  }
}

/**
 * Bytes that a rank of a group of `size` sends in an operation.
 * @param args as `Group` takes them
 * @param rank own one within the group
 */
export function bytesSent(name: OperationName, args: readonly unknown[], rank: number, size: number): number {
  if (name === 'barrier') return 0;
  const [buffer, second] = args as [CollectiveArray, readonly ElementRange[] | number];
  const wire = name === 'reduceScatter' ? (args[2] as FloatWire | undefined) : undefined;
  if (name === 'allReduce') return (2 * (size - 1) * buffer.byteLength) / size;
  if (typeof second === 'number') return second === rank ? (size - 1) * buffer.byteLength : 0;
  const lengths = second.map((range) => wireBytes(buffer, [range], wire));
  if (name === 'allGather') return (size - 1) * lengths[rank]!;
  return lengths.reduce((sum, length, to) => sum + (to === rank ? 0 : length), 0);
}
