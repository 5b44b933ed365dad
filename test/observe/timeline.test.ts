import { type RankTimeline, stepTimeline, timelinePicture, timelineShares, traceText } from '@sluice/observe';
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
