/**
 * A step's timeline as a trace of OpenTelemetry, in the JSON encoding of its protocol (opentelemetry.io/docs/specs/otlp/#otlphttp): a span
 * for the step, below it one for each worker, and below these what it computed, waited for and sent. The official exporter for Node is not
 * used: it wants a newer Node than Sluice does, and brings 20 MB for what is told here.
 */

import { createHash } from 'node:crypto';
import type { RankTimeline, StepTimeline } from './timeline.ts';

/** Texts and numbers of a span, or of whatever it came from. */
export type Attributes = Readonly<Record<string, string | number>>;

export interface TraceSource {
  /** Of the run, or whatever the environment adds. */
  readonly attributes: Attributes;
  /** When the first worker began, ms since 1970. */
  readonly startMs: number;
}

interface Span {
  readonly name: string;
  readonly start: number;
  readonly end: number;
  readonly attributes: Attributes;
  readonly events?: readonly { readonly name: string; readonly at: number }[];
}

/** SPAN_KIND_INTERNAL */
const INTERNAL = 1;

/** Spans of one request: collectors refuse what is too large. */
const MOST_SPANS = 2000;

/** The bodies of the requests that tell a collector of the step. */
export function* traceRequests(timeline: StepTimeline, source: TraceSource): Generator<object> {
  const { step, ranks } = timeline;
  const trace = hexOf([source.attributes, source.startMs, step], 32);
  const root = hexOf([trace, 'step'], 16);
  const end = Math.max(...ranks.map(({ end }) => end));
  const encode = (id: string, parent: string | undefined, span: Span) =>
    encoded(trace, id, parent, span, source);
  const whole = { name: `step ${step}`, start: 0, end, attributes: { 'sluice.step': step } };
  for (const one of ranks) {
    const own = hexOf([root, one.rank], 16);
    const { start, end } = one;
    const worker = { name: `rank ${one.rank}`, start, end, attributes: { 'sluice.rank': one.rank } };
    const spans = [
      ...(one === ranks[0] ? [encode(root, undefined, whole)] : []),
      encode(own, root, worker),
      ...spansOf(one).map((span, index) => encode(hexOf([own, index], 16), own, span)),
    ];
    const resource = resourceOf(one, source);
    for (let begin = 0; begin < spans.length; begin += MOST_SPANS) {
      const part = spans.slice(begin, begin + MOST_SPANS);
      yield { resourceSpans: [{ resource, scopeSpans: [{ scope: { name: 'sluice' }, spans: part }] }] };
    }
  }
}

function resourceOf({ rank, host }: RankTimeline, { attributes }: TraceSource): object {
  const own = { 'service.instance.id': `rank ${rank}`, 'host.name': host };
  return { attributes: encodedAttributes({ 'service.name': 'sluice', ...attributes, ...own }) };
}

function spansOf({ spans, waits, operations }: RankTimeline): Span[] {
  return [
    ...spans.map(({ name, pass, start, end }) => ({
      ...{ name, start, end },
      attributes: { 'sluice.kind': pass ?? 'update' },
    })),
    ...waits.map(({ operation, start, begun, end }) => ({
      ...{ name: `${operation}: waits`, start, end },
      attributes: { 'sluice.kind': 'wait', 'sluice.waiting_ms': begun - start },
      events: [{ name: 'all are there', at: begun }],
    })),
    ...operations.map(({ name, group, bytes, launched, begun, ended }) => ({
      ...{ name, start: launched, end: ended },
      attributes: { 'sluice.kind': 'operation', 'sluice.group': group.join(' '), 'sluice.bytes': bytes },
      events: [{ name: 'all are there', at: begun }],
    })),
  ];
}

function encoded(
  traceId: string,
  spanId: string,
  parentSpanId: string | undefined,
  { name, start, end, attributes, events = [] }: Span,
  { startMs }: TraceSource,
): object {
  const time = (ms: number) => nanoseconds(startMs, ms);
  return {
    ...{ traceId, spanId, ...(parentSpanId && { parentSpanId }), name, kind: INTERNAL },
    ...{ startTimeUnixNano: time(start), endTimeUnixNano: time(end) },
    attributes: encodedAttributes(attributes),
    ...(events.length > 0 && {
      events: events.map(({ name, at }) => ({ name, timeUnixNano: time(at) })),
    }),
  };
}

function encodedAttributes(attributes: Attributes): object[] {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: encodedValue(value) }));
}

/** Whole numbers of 64 bits travel as text. */
function encodedValue(value: string | number): object {
  if (typeof value === 'string') return { stringValue: value };
  return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value };
}

/** Since 1970; a double would lose hundreds of them. */
function nanoseconds(startMs: number, ms: number): string {
  const whole = Math.floor(startMs);
  return String(BigInt(whole) * 1_000_000n + BigInt(Math.round((startMs - whole + ms) * 1e6)));
}

function hexOf(value: unknown, digits: number): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, digits);
}
