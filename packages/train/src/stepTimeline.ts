/** What one worker did in a step, moment by moment, for a timeline. Nothing that is trained depends on it. */

import { monotonicMs, type OperationSpan, type WaitSpan } from '@sluice/collectives';
import { type Pass, profile } from '@sluice/engine';
import type { Workers } from './workers.ts';

/** A while in which the main thread computed: an operation of a pass, or a function of the C++ core outside of both. */
export interface ComputeSpan {
  readonly name: string;
  readonly pass: Pass | null;
  readonly start: number;
  readonly end: number;
}

/** All moments are milliseconds of the clock of the worker's host. */
export interface WorkerTimeline {
  readonly start: number;
  readonly end: number;
  readonly spans: readonly ComputeSpan[];
  readonly operations: readonly OperationSpan[];
  /** They lie within spans, or between them. */
  readonly waits: readonly WaitSpan[];
  /** What there was no room for. */
  readonly dropped: number;
}

/** Longer steps than this have more operations than a picture can show. */
const MOST_SPANS = 100_000;

/** Runs a step, and tells what was done in it. */
export async function recordStep<Result>(
  workers: Pick<Workers, 'record'>,
  step: () => Promise<Result>,
): Promise<{ result: Result; timeline: WorkerTimeline }> {
  const spans: ComputeSpan[] = [];
  let dropped = 0;
  let result: Result | undefined;
  const finish = workers.record?.();
  const start = monotonicMs();
  await profile(
    async () => {
      result = await step();
    },
    monotonicMs,
    ({ name, pass = null }, from, to) => {
      if (spans.length < MOST_SPANS) spans.push({ name, pass, start: from, end: to });
      else dropped++;
    },
  );
  const end = monotonicMs();
  const { operations = [], waits = [], dropped: lost = 0 } = finish?.() ?? {};
  return { result: result!, timeline: { start, end, spans, operations, waits, dropped: dropped + lost } };
}
