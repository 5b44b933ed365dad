import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import {
  type RankTimeline,
  stepTimeline,
  TraceCollector,
  timelinePicture,
  timelineShares,
  traceText,
} from '@sluice/observe';
import test from 'ava';

/** A worker that began at `start`: computes 10 ms, waits for an all-reduce from 10 to 18, of which its peer is late by 5. */
function timeline(rank: number, host: string, start: number): RankTimeline {
  const at = (ms: number) => start + ms;
  return {
    ...{ rank, host, dropped: 0, start: at(0), end: at(20) },
    spans: [
      { name: 'SluiceLinear', pass: 'forward', start: at(0), end: at(4) },
      { name: 'SluiceLinear', pass: 'backward', start: at(4), end: at(10) },
      { name: 'adamW', pass: null, start: at(18), end: at(20) },
    ],
    waits: [{ operation: 'allReduce', start: at(10), begun: at(15), end: at(18) }],
    operations: [
      {
        ...{ name: 'reduceScatter', group: [0, 1], bytes: 64 },
        ...{ launched: at(5), begun: at(6), ended: at(8) },
      },
      {
        ...{ name: 'allReduce', group: [0, 1], bytes: 8 },
        ...{ launched: at(10), begun: at(15), ended: at(18) },
      },
      {
        ...{ name: 'allGather', group: [0, 1], bytes: 4 },
        ...{ launched: at(19), begun: Number.NEGATIVE_INFINITY, ended: Number.POSITIVE_INFINITY },
      },
    ],
  };
}

test('workers of one host keep their distance, those of another are put in line by what all needed', (t) => {
  const { ranks } = stepTimeline(7, [
    timeline(0, 'a', 5000),
    timeline(1, 'a', 5003),
    timeline(2, 'b', 900_000),
  ]);
  // The third worker's all-reduces are not of all three, so that nothing puts it in line.
  t.deepEqual(
    ranks.map(({ start }) => start),
    [0, 3, 895_000],
  );
  const two = stepTimeline(7, [timeline(0, 'a', 5000), timeline(1, 'b', 900_000)]).ranks;
  t.deepEqual(
    two.map(({ start, end }) => [start, end]),
    [
      [0, 20],
      [0, 20],
    ],
  );
  t.is(two[1]!.waits[0]!.begun, 15);
});

test('what is under way when the step ends is shown to its end', (t) => {
  const [one] = stepTimeline(1, [timeline(0, 'a', 100)]).ranks;
  t.deepEqual(one!.operations[2], {
    ...{ name: 'allGather', group: [0, 1], bytes: 4 },
    ...{ launched: 19, begun: 19, ended: 20 },
  });
});

test('communication that something hides is told apart from what nothing does, and from waiting', (t) => {
  const [one] = stepTimeline(1, [timeline(0, 'a', 100)]).ranks;
  t.deepEqual(timelineShares(one!), { total: 20, waiting: 5, exposed: 3, hidden: 3 });
});

test('the trace is JSON in which what a thread does nests, and operations begin and end', (t) => {
  const text = [...traceText(stepTimeline(7, [timeline(0, 'a', 0), timeline(1, 'a', 2)]))].join('');
  const { traceEvents, otherData } = JSON.parse(text) as {
    otherData: { step: number; ranks: unknown[] };
    traceEvents: { ph: string; pid: number; ts: number; dur: number; id: string; name: string }[];
  };
  t.is(otherData.step, 7);
  t.is(otherData.ranks.length, 2);
  for (const pid of [0, 1]) {
    const complete = traceEvents.filter((event) => event.ph === 'X' && event.pid === pid);
    const nests = (a: (typeof complete)[number], b: (typeof complete)[number]) =>
      a.ts + a.dur <= b.ts ||
      b.ts + b.dur <= a.ts ||
      (a.ts <= b.ts && b.ts + b.dur <= a.ts + a.dur) ||
      (b.ts <= a.ts && a.ts + a.dur <= b.ts + b.dur);
    t.true(complete.every((a) => complete.every((b) => nests(a, b))));
    t.deepEqual(complete.map(({ name }) => name).sort(), [
      ...['SluiceLinear', 'SluiceLinear', 'adamW', 'allReduce: moves bytes', 'allReduce: waits for others'],
      'step 7',
    ]);
  }
  const of = (phase: string) => traceEvents.filter(({ ph }) => ph === phase).map(({ id }) => id);
  t.deepEqual(of('b'), ['0.0', '0.1', '0.2', '1.0', '1.1', '1.2']);
  t.deepEqual(of('e'), of('b'));
});

test('the picture shows each worker in proportion to time', (t) => {
  const svg = timelinePicture(stepTimeline(7, [timeline(0, 'a', 0), timeline(1, 'a', 0)]));
  const widths = (kind: string) =>
    [
      ...svg.matchAll(
        new RegExp(`<rect class="${kind}" x="[\\d.]+" y="\\d+" width="([\\d.]+)" height="20"`, 'g'),
      ),
    ].map(([, width]) => Number(width));
  const [forward] = widths('forward');
  t.is(widths('forward').length, 2);
  for (const [kind, ms] of [
    ['backward', 6],
    ['update', 2],
    ['waiting', 5],
    ['exposed', 3],
  ] as const) {
    t.true(Math.abs(widths(kind)[0]! - (forward! * ms) / 4) < 0.02, kind);
  }
  t.true(svg.includes('25.0 % / 15.0 %'));
});

type SpanField = 'traceId' | 'spanId' | 'parentSpanId' | 'name' | 'startTimeUnixNano' | 'endTimeUnixNano';

interface Told {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly { readonly key: string; readonly value: object }[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly Readonly<Record<SpanField, string>>[];
    }[];
  }[];
}

test('a collector is told of the step: spans within spans, on the clock of the day, from each worker', async (t) => {
  const got: { readonly path: string; readonly key: unknown; readonly told: Told }[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const told = JSON.parse(gunzipSync(Buffer.concat(chunks)).toString()) as Told;
      got.push({ path: request.url!, key: request.headers['api-key'], told });
      response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`;
  const access = { url, headers: { 'api-key': 'secret' }, limitMs: 5000, attributes: { 'sluice.run': 'a' } };
  const collector = new TraceCollector(access, t.fail);
  const start = 1_764_000_000_123.25;
  collector.send(stepTimeline(7, [timeline(0, 'a', 0), timeline(1, 'b', 2)]), start);
  await collector.close(60_000);

  t.deepEqual(
    got.map(({ path, key }) => [path, key]),
    [
      ['/v1/traces', 'secret'],
      ['/v1/traces', 'secret'],
    ],
  );
  const resources = got.flatMap(({ told }) => told.resourceSpans);
  t.deepEqual(resources[1]!.resource.attributes, [
    { key: 'service.name', value: { stringValue: 'sluice' } },
    { key: 'sluice.run', value: { stringValue: 'a' } },
    { key: 'service.instance.id', value: { stringValue: 'rank 1' } },
    { key: 'host.name', value: { stringValue: 'b' } },
  ]);
  const spans = resources.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  t.is(byId.size, spans.length);
  t.is(new Set(spans.map(({ traceId }) => traceId)).size, 1);
  t.true(spans.every(({ traceId, spanId }) => /^[0-9a-f]{32} [0-9a-f]{16}$/.test(`${traceId} ${spanId}`)));
  t.deepEqual(
    spans.filter(({ parentSpanId }) => !parentSpanId).map(({ name }) => name),
    ['step 7'],
  );
  const nests = spans.every((span) => {
    const { startTimeUnixNano, endTimeUnixNano } = byId.get(span.parentSpanId) ?? span;
    return startTimeUnixNano <= span.startTimeUnixNano && span.endTimeUnixNano <= endTimeUnixNano;
  });
  t.true(nests);
  const wait = spans.find(({ name }) => name === 'allReduce: waits')!;
  t.deepEqual([wait.startTimeUnixNano, wait.endTimeUnixNano], ['1764000000133250000', '1764000000141250000']);
  t.is(spans.length, 1 + 2 * (1 + 3 + 1 + 3));
});

test('a collector that is away is told of once, and holds up nothing', async (t) => {
  const warnings: string[] = [];
  const access = { url: 'http://127.0.0.1:1/secret/v1/traces', headers: {}, limitMs: 5000, attributes: {} };
  const collector = new TraceCollector(access, (text) => warnings.push(text));
  for (const step of [1, 2, 3]) collector.send(stepTimeline(step, [timeline(0, 'a', 0)]), 0);
  await collector.close(60_000);
  t.is(warnings.length, 1);
  t.regex(
    warnings[0]!,
    /trace of step 1 could not be brought: 127\.0\.0\.1:1 did not answer .*Training goes on/,
  );
  t.notRegex(warnings[0]!, /secret/);
});
