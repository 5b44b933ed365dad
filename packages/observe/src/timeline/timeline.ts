/** One step of all workers, moment by moment, on one clock. */

import type { WorkerTimeline } from '@sluice/train';

/** What a worker did, and where it is. */
export interface RankTimeline extends WorkerTimeline {
  readonly rank: number;
  /** Name of its host. */
  readonly host: string;
}

export interface StepTimeline {
  readonly step: number;
  /** In order of ranks; times are milliseconds since the first of them began. */
  readonly ranks: readonly RankTimeline[];
}

/**
 * Puts the workers of a step on one clock. Workers of one host have the same. Those of several hosts are put in line by the end of the
 * last operation in which all workers needed all others, the agreement on the step's numbers: it ends everywhere within the time that
 * a message takes.
 */
export function stepTimeline(step: number, ranks: readonly RankTimeline[]): StepTimeline {
  const shifts = new Map<string, number>();
  for (const timeline of ranks) {
    const shift = agreementOf(timeline, ranks.length) - agreementOf(ranks[0]!, ranks.length);
    if (!shifts.has(timeline.host)) shifts.set(timeline.host, Number.isFinite(shift) ? shift : 0);
  }
  const inLine = ranks.map((timeline) => moved(timeline, -shifts.get(timeline.host)!));
  const first = Math.min(...inLine.map(({ start }) => start));
  return { step, ranks: inLine.map((timeline) => moved(timeline, -first)) };
}

function agreementOf({ operations }: WorkerTimeline, world: number): number {
  const isAgreement = ({ name, group }: WorkerTimeline['operations'][number]) =>
    name === 'allReduce' && group.length === world;
  return operations.filter(isAgreement).at(-1)?.ended ?? Number.NaN;
}

/** All moments, later by so many ms. What had not ended ends with the step. */
function moved(timeline: RankTimeline, by: number): RankTimeline {
  const end = timeline.end + by;
  return {
    ...timeline,
    start: timeline.start + by,
    end,
    spans: timeline.spans.map((span) => ({ ...span, start: span.start + by, end: span.end + by })),
    waits: timeline.waits.map((wait) => ({
      ...wait,
      start: wait.start + by,
      begun: wait.begun + by,
      end: wait.end + by,
    })),
    operations: timeline.operations.map((operation) => {
      const launched = operation.launched + by;
      const ended = Math.min(operation.ended + by, end);
      const begun = Math.min(Math.max(operation.begun + by, launched), ended);
      return { ...operation, launched, begun, ended };
    }),
  };
}

/** Where the time of a worker in a step went, ms. */
export interface TimelineShares {
  readonly total: number;
  /** Blocked by peers that had not come yet. */
  readonly waiting: number;
  /** Blocked while bytes were moved: communication that nothing hides. */
  readonly exposed: number;
  /** Communication among workers that were all there, while the main thread did something else. */
  readonly hidden: number;
}

export function timelineShares({ start, end, waits, operations }: WorkerTimeline): TimelineShares {
  const sum = (lengths: readonly number[]) => lengths.reduce((total, length) => total + length, 0);
  const exposed = sum(waits.map(({ begun, end }) => end - begun));
  const moving = unionLength(operations.map(({ begun, ended }) => [begun, ended]));
  const blocked = waits.map(({ begun, end }): [number, number] => [begun, end]);
  const both =
    unionLength(blocked) +
    moving -
    unionLength([...blocked, ...operations.map(({ begun, ended }): [number, number] => [begun, ended])]);
  return {
    total: end - start,
    waiting: sum(waits.map(({ start, begun }) => begun - start)),
    exposed,
    hidden: Math.max(0, moving - both),
  };
}

/** Length of what at least one of the intervals covers. */
function unionLength(intervals: readonly (readonly [number, number])[]): number {
  let length = 0;
  let reached = Number.NEGATIVE_INFINITY;
  for (const [from, to] of [...intervals].sort(([a], [b]) => a - b)) {
    length += Math.max(0, to - Math.max(from, reached));
    reached = Math.max(reached, to);
  }
  return length;
}
