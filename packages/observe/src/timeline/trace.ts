/**
 * A step's timeline in Chrome's trace event format, which Perfetto (ui.perfetto.dev) and chrome://tracing open. A process of the trace
 * is a worker; its first thread has what the main thread computed and waited for, below are the operations that were under way.
 */

import { type StepTimeline, timelineShares } from './timeline.ts';

/** https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (Trace Event Format); times in µs. */
type TraceEvent = Readonly<Record<string, unknown>> & { readonly ph: string; readonly pid: number };

const MAIN_THREAD = 1;
const OPERATIONS = 2;

/** The file's content, in pieces. */
export function* traceText(timeline: StepTimeline): Generator<string> {
  const { step, ranks } = timeline;
  const shares = ranks.map((one) => ({ rank: one.rank, ...timelineShares(one), dropped: one.dropped }));
  yield `{"displayTimeUnit":"ms","otherData":${JSON.stringify({ step, ranks: shares })},"traceEvents":[\n`;
  let isFirst = true;
  for (const event of traceEvents(timeline)) {
    yield `${isFirst ? '' : ',\n'}${JSON.stringify(event)}`;
    isFirst = false;
  }
  yield '\n]}\n';
}

function* traceEvents({ step, ranks }: StepTimeline): Generator<TraceEvent> {
  for (const { rank, host, start, end, spans, waits, operations } of ranks) {
    const of = { pid: rank, tid: MAIN_THREAD };
    yield named('process_name', of, `rank ${rank} on ${host}`);
    yield { ph: 'M', name: 'process_sort_index', pid: rank, args: { sort_index: rank } };
    yield named('thread_name', of, 'main thread');
    yield named('thread_name', { pid: rank, tid: OPERATIONS }, 'operations');
    yield complete(of, `step ${step}`, 'step', start, end);
    for (const { name, pass, start, end } of spans) yield complete(of, name, pass ?? 'update', start, end);
    for (const { operation, start, begun, end } of waits) {
      if (begun > start) yield complete(of, `${operation}: waits for others`, 'waiting', start, begun);
      if (end > begun) yield complete(of, `${operation}: moves bytes`, 'communicate', begun, end);
    }
    for (const [number, { name, group, bytes, launched, begun, ended }] of operations.entries()) {
      const event = { pid: rank, tid: OPERATIONS, cat: 'operation', id: `${rank}.${number}`, name };
      yield { ...event, ph: 'b', ts: micro(launched), args: { group: group.join(' '), bytes } };
      yield { ...event, ph: 'n', ts: micro(begun), args: { all: 'there' } };
      yield { ...event, ph: 'e', ts: micro(ended) };
    }
  }
}

function named(name: string, of: { pid: number; tid: number }, value: string): TraceEvent {
  return { ph: 'M', name, ...of, args: { name: value } };
}

function complete(
  of: { pid: number; tid: number },
  name: string,
  cat: string,
  start: number,
  end: number,
): TraceEvent {
  return { ph: 'X', ...of, name, cat, ts: micro(start), dur: micro(end - start) };
}

/** Milliseconds as microseconds, to the nanosecond. */
function micro(ms: number): number {
  return Math.round(ms * 1e6) / 1e3;
}
