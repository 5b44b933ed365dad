import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import vm from 'node:vm';
import {
  appendSamples,
  METRICS_FILE,
  MetricsLog,
  type ReportFacts,
  SAMPLES_FILE,
  type SampleRecord,
  type StepRecord,
  supersedeAfter,
  writeHtmlReport,
} from '@sluice/observe';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { loadPlotLibrary } from '../../packages/observe/src/report/assets.ts';
import type { ReportData } from '../../packages/observe/src/report/data.ts';
import {
  movingAverage,
  selectExtremes,
  smooth,
  Thinner,
} from '../../packages/observe/src/report/downsample.ts';
import { logarithmicSplits } from '../../packages/observe/src/report/page/charts.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { record } from './support.ts';

async function report(
  t: ExecutionContext,
  records: readonly StepRecord[],
  facts: ReportFacts = {},
  samples: readonly SampleRecord[] = [],
) {
  const directory = temporaryDirectory(t);
  const log = MetricsLog.open(join(directory, 'metrics.jsonl'));
  for (const each of records) log.append(each);
  log.close();
  if (samples.length > 0) appendSamples(join(directory, SAMPLES_FILE), samples);
  const path = await writeHtmlReport(directory, facts);
  const html = readFileSync(path, 'utf8');
  const json = /<script type="application\/json" id="report-data">(.*?)<\/script>/s.exec(html)?.[1] ?? '';
  return { directory, path, html, data: JSON.parse(json) as ReportData };
}

const SPIKE = {
  ...{ start: 3, end: 5, peak: 4, height: 'loss 7.0000 over 4.5000', first: 'loss ×1.56' },
  ...{ decision: 'told', isGivenUp: false, leftOut: '', rate: '' },
};

const expertLoad = [
  [0.5, 0.25, 0.125, 0.125],
  [0.25, 0.25, 0.25, 0.25],
];

test('downsampling keeps the first, the last and every extreme, within the limit', (t) => {
  const value = fc.oneof(
    { weight: 9, arbitrary: fc.double({ noNaN: true }) },
    { weight: 1, arbitrary: fc.constant(Number.NaN) },
  );
  fc.assert(
    fc.property(
      fc.array(value, { minLength: 1, maxLength: 2000 }),
      fc.integer({ min: 4, max: 100 }),
      (values, limit) => {
        const chosen = selectExtremes(values, limit);
        t.true(chosen.length <= Math.max(limit, 4));
        t.deepEqual(
          chosen,
          [...new Set(chosen)].sort((a, b) => a - b),
        );
        t.is(chosen[0], 0);
        t.is(chosen.at(-1), values.length - 1);
        const finite = values.filter(Number.isFinite);
        const kept = chosen.map((index) => values[index]!).filter(Number.isFinite);
        t.is(
          kept.length === 0 ? undefined : Math.max(...kept),
          finite.length === 0 ? undefined : Math.max(...finite),
        );
        t.is(
          kept.length === 0 ? undefined : Math.min(...kept),
          finite.length === 0 ? undefined : Math.min(...finite),
        );
      },
    ),
    { numRuns: 200 },
  );
});

test('smoothing leaves constants alone, stays within the range and bridges gaps', (t) => {
  t.true(smooth([3, 3, Number.NaN, 3], 5).every((value) => Math.abs(value - 3) < 1e-12));
  fc.assert(
    fc.property(fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1 }), (values) => {
      for (const value of [...smooth(values, 7), ...movingAverage(values, 7)]) {
        t.true(value >= Math.min(...values) - 1e-6 && value <= Math.max(...values) + 1e-6);
      }
    }),
  );
  t.true(smooth([Number.NaN], 5).every(Number.isNaN));
});

test('a stream of any length is thinned to a bounded, evenly spaced part with its newest item', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 2, max: 50 }), (count, limit) => {
      const thinner = new Thinner<number>(limit);
      for (let i = 0; i < count; i++) thinner.add(i);
      const { items } = thinner;
      t.true(items.length <= limit + 1);
      t.true(items.length >= Math.min(count, limit / 2));
      t.is(items[0], 0);
      t.is(items.at(-1), count - 1);
      const gaps = new Set(items.slice(1, -1).map((item, index) => item - items[index]!));
      t.true(gaps.size <= 1);
    }),
  );
});

test('texts cannot break out of the page', async (t) => {
  const attack = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u2028&amp;\'';
  const facts = {
    title: attack,
    config: { name: attack, model: { [attack]: attack } },
    checkpoints: [{ step: 1, directory: attack, note: attack, time: attack }],
    spikes: [{ ...SPIKE, decision: attack }],
    notices: [attack],
  };
  const samples = [1, 2].map((step) => ({ step, prompt: attack, text: attack }));
  const { html } = await report(t, [record(1)], facts, samples);
  t.is(html.split('</script>').length - 1, 3, 'the data, the plot library, the page’s script');
  t.is(html.split('<script').length - 1, 3);
  t.false(html.includes('<img'));
  t.false(html.includes('onerror="'));
  const escaped =
    '&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=&quot;alert(2)&quot;&gt;\u2028&amp;amp;&#39;';
  t.is(html.split(escaped).length - 1, 13);
});

test('the page is one file: it loads nothing, and its scripts parse', async (t) => {
  const { html, directory } = await report(t, [record(1, { expertLoad })], { title: 'run' });
  t.notRegex(html, /<(link|img|iframe)\b|<script[^>]*\bsrc=|@import|url\(/);
  t.regex(html, /Content-Security-Policy" content="default-src 'none'/);
  const scripts = [...html.matchAll(/<script(?: type="module")?>(.*?)<\/script>/gs)].map(
    (match) => match[1] ?? '',
  );
  t.is(scripts.length, 2);
  for (const script of scripts) {
    t.notRegex(script, /^import /m);
    t.notThrows(() => new vm.Script(script.replace(/^export \{\};?$/m, '')));
  }
  t.deepEqual(readdirSync(directory).sort(), ['metrics.jsonl', 'report.html'], 'no temporary file is left');
});

test('charts begin in a browser that names no language of its own', async (t) => {
  const { script } = await loadPlotLibrary();
  const languageOf = (language: string) =>
    vm.runInNewContext(`${script}\nnavigator.language`, { navigator: { language } });
  t.is(languageOf('en-US@posix'), 'en-US');
  t.is(languageOf('de'), 'de');
});

test('the data of the plots is bounded, and the spike of one step is in it', async (t) => {
  const records = Array.from({ length: 20_000 }, (_, index) =>
    record(index + 1, {
      loss: index === 12_345 ? 77 : 4 + Math.sin(index),
      gradientNorm: 1 + Math.cos(index) / 2,
    }),
  );
  const { data, html } = await report(t, records);
  t.true(html.length < 600_000, `${html.length} characters`);
  const loss = data.charts.find(({ id }) => id === 'loss')!;
  t.true(loss.steps.length <= 3300);
  t.is(loss.series[0]!.values[loss.steps.indexOf(12_346)], 77);
  for (const chart of data.charts) {
    for (const series of chart.series) t.is(series.values.length, chart.steps.length);
  }
});

test('updates that were left out are marked to the end of a long run, however many there were before', async (t) => {
  const steps = Array.from({ length: 3000 }, (_, i) => i + 1);
  const { data } = await report(
    t,
    steps.map((step) => record(step, { applied: step > 1000 && step < 2990 })),
  );
  t.is(data.skipped.length, 250 + 3);
  t.deepEqual([data.skipped[0], data.skipped.at(-1)], [1, 2997]);
});

test('the time of a step is told by its parts; a log that has waiting and moving in one says so', async (t) => {
  const labels = async (records: readonly StepRecord[]) => {
    const { data } = await report(t, records);
    return data.charts.find(({ id }) => id === 'step-time')!.series.map(({ label }) => label);
  };
  const now = record(1);
  t.deepEqual(await labels([now, record(2)]), ['compute', 'wait for workers', 'communicate', 'optimize']);
  const then = { ...now, seconds: { ...now.seconds, waiting: Number.NaN } };
  t.deepEqual(await labels([then]), ['compute', 'communicate, waiting included', 'optimize']);
});

test('a dense run has no panels of experts; a run with experts has them', async (t) => {
  const dense = await report(t, [record(1), record(2)]);
  t.is(dense.data.load, undefined);
  t.false(dense.html.includes('<canvas'));
  t.false(dense.data.charts.some(({ id }) => id === 'max-violation' || id === 'auxiliary-loss'));
  const sparse = await report(t, [record(1, { expertLoad }), record(2, { expertLoad })]);
  t.deepEqual(sparse.data.load, {
    steps: [1, 2],
    layers: 2,
    experts: 4,
    values: [
      [2, 1, 0.5, 0.5, 1, 1, 1, 1],
      [2, 1, 0.5, 0.5, 1, 1, 1, 1],
    ],
  });
  t.true(sparse.html.includes('<canvas'));
  // What is drawn has a name for those who do not see it.
  for (const [canvas] of sparse.html.matchAll(/<canvas[^>]*>/g))
    t.regex(canvas, /role="(img|group)" aria-label="[^"]|aria-hidden/);
  for (const [plot] of sparse.html.matchAll(/<div class="plot"[^>]*>/g))
    t.regex(plot, /role="group" aria-label="[^"]/);
  t.true(sparse.data.charts.some(({ id }) => id === 'max-violation'));
});

test('a logarithmic axis of a small range has lines at round numbers, of a large one at those of each power', (t) => {
  const lines = (low: number, high: number) => logarithmicSplits(undefined as never, 1, low, high);
  t.deepEqual(lines(1.123, 1.71), [1.2, 1.4, 1.6]);
  t.deepEqual(lines(0.03, 0.05), [0.03, 0.035, 0.04, 0.045, 0.05]);
  t.deepEqual(lines(4, 41), [4, 5, 6, 7, 8, 9, 10, 20, 30, 40]);
  t.deepEqual(lines(0, 0), []);
  t.deepEqual(lines(2, 2), []);
});

test('spikes are marked in the plots and told in a table, whose empty columns are left out', async (t) => {
  const records = [1, 2, 3, 4, 5, 6, 7].map((step) => record(step));
  const { html, data } = await report(t, records, { spikes: [SPIKE] });
  t.deepEqual(data.spikes, [{ start: 3, end: 5, isGivenUp: false }]);
  t.regex(
    html,
    /3–5<\/td><td class="number">4<\/td><td>loss 7\.0000 over 4\.5000<\/td><td>loss ×1\.56<\/td>/,
  );
  t.false(html.includes('Samples left out'));
  const without = await report(t, records);
  t.deepEqual(without.data.spikes, []);
  t.false(without.html.includes('Spikes and decisions'));
});

test('steps that a run gave up when it went back are drawn over those that it took then', async (t) => {
  const directory = temporaryDirectory(t);
  const take = (from: number, to: number, loss: (step: number) => number) => {
    const log = MetricsLog.open(join(directory, METRICS_FILE));
    for (let step = from; step <= to; step++) {
      log.append(record(step, { loss: loss(step), gradientNorm: step === 14 ? 0 : 1 }));
    }
    log.close();
  };
  take(1, 12, () => 4);
  // A fault, and the same steps again.
  supersedeAfter(directory, 10);
  take(11, 15, () => 9);
  supersedeAfter(directory, 10);
  take(11, 22, (step) => (step > 20 ? 8 : 3));
  supersedeAfter(directory, 19);
  take(20, 24, () => 2);
  const rollbacks = [
    { from: 15, to: 10 },
    { from: 22, to: 20 },
    { from: 40, to: 30 },
  ];
  const leftOut = '24: 80–103';
  const spikes = [{ ...SPIKE, decision: 'back to step 10', isGivenUp: true, leftOut }];
  const html = readFileSync(await writeHtmlReport(directory, { rollbacks, spikes }), 'utf8');
  const json = /<script type="application\/json" id="report-data">(.*?)<\/script>/s.exec(html)![1]!;
  const data = JSON.parse(json) as ReportData;
  t.deepEqual(data.rollbacks, rollbacks);
  const loss = data.charts.find(({ id }) => id === 'loss')!;
  const at = (role: string) => {
    const { values } = loss.series.find((series) => series.role === role)!;
    return Object.fromEntries(
      loss.steps.flatMap((step, i) => (values[i] === null ? [] : [[step, values[i]]])),
    );
  };
  t.deepEqual(at('givenUp'), { 11: 9, 12: 9, 13: 9, 14: 9, 15: 9, 21: 8, 22: 8 });
  t.like(at('raw'), { 10: 4, 11: 3, 19: 3, 20: 2, 24: 2 });
  const norms = data.charts.find(({ id }) => id === 'gradient-norm')!.series;
  t.is(norms.at(-1)!.role, 'givenUp');
  t.is(norms.at(-1)!.values[13], null, 'a logarithmic axis has no place for zero');
  t.regex(
    html,
    /Taken again after the run was resumed: steps 11 to 12 \(superseded\/metrics-001\.jsonl\)\.</,
  );
  t.regex(html, /back to step 10<\/td><td>24: 80–103</);
  t.regex(html, /went back 3 times/);
});

test('stretches that overlap are curves of their own', async (t) => {
  const directory = temporaryDirectory(t);
  for (const [to, loss] of [
    [14, 7],
    [13, 8],
    [20, 3],
  ] as const) {
    const log = MetricsLog.open(join(directory, METRICS_FILE));
    for (let step = log.lastStep + 1; step <= to; step++) log.append(record(step, { loss }));
    log.close();
    if (to < 20) supersedeAfter(directory, 10);
  }
  const rollbacks = [
    { from: 14, to: 10 },
    { from: 13, to: 10 },
  ];
  const html = readFileSync(await writeHtmlReport(directory, { rollbacks }), 'utf8');
  t.regex(html, /"label":"given up","role":"givenUp","values":\[(null,){10}7,7,7,7,null/);
  t.regex(html, /"label":"given up \(2\)","role":"givenUp","values":\[(null,){10}8,8,8,null/);
});

test('gradient norms of groups are a plot; a group that came later begins late', async (t) => {
  const { data } = await report(t, [
    record(1, { groupNorms: { attention: 0.5 } }),
    record(2, { groupNorms: { attention: 0.25, router: 2 } }),
    record(3),
  ]);
  const chart = data.charts.find(({ id }) => id === 'group-norms')!;
  t.deepEqual(
    chart.series.map(({ label, values }) => [label, values]),
    [
      ['attention', [0.5, 0.25, null]],
      ['router', [null, 2, null]],
    ],
  );
  t.false((await report(t, [record(1)])).data.charts.some(({ id }) => id === 'group-norms'));
});

test('sizes of updates are a plot; each stands at its own step, though the next one tells it', async (t) => {
  const { data } = await report(t, [
    record(1),
    record(2, { lastUpdate: { overall: 0.5, groups: { attention: 0.25 } } }),
    record(4, { lastUpdate: { overall: 9, groups: {} } }),
    record(5, { lastUpdate: { overall: 0.125, groups: { router: 1 } } }),
  ]);
  const chart = data.charts.find(({ id }) => id === 'update-sizes')!;
  t.deepEqual(
    chart.series.map(({ label, values }) => [label, values]),
    [
      ['whole model', [0.5, null, 0.125, null]],
      ['attention', [0.25, null, null, null]],
      ['router', [null, null, 1, null]],
    ],
  );
});

test('the header compares the validation loss with the unigram model', async (t) => {
  const { html, data } = await report(
    t,
    [record(1, { validationLoss: 5.5 }), record(2, { validationLoss: 5 })],
    {
      unigramLoss: 6.25,
      parameters: { total: 7_060_000, active: 3_520_000 },
    },
  );
  t.regex(html, /Validation loss<\/dt><dd class="value">5\.0000 <small>nats<\/small>/);
  t.regex(html, /1\.25 below the unigram model’s 6\.2500/);
  t.regex(html, /7\.06 M<\/dd><dd class="note">3\.52 M for each token/);
  const loss = data.charts.find(({ id }) => id === 'loss')!;
  t.deepEqual(loss.series.find(({ role }) => role === 'reference')?.values, [6.25, 6.25]);
});

test('non-finite steps, damaged lines and an empty log still give a report', async (t) => {
  const { directory, html, data } = await report(t, [
    record(1),
    record(2, { loss: Number.NaN, gradientNorm: Number.POSITIVE_INFINITY, applied: false }),
  ]);
  t.deepEqual(data.skipped, [2]);
  t.deepEqual(data.charts.find(({ id }) => id === 'loss')?.series[0]?.values, [4.5, null]);
  t.regex(html, /1 update left out/);
  appendFileSync(join(directory, 'metrics.jsonl'), `rubbish\n${JSON.stringify(record(4))}\n`);
  t.regex(
    readFileSync(await writeHtmlReport(directory), 'utf8'),
    /Left out of metrics\.jsonl: 1 damaged line\./,
  );
  const empty = await report(t, []);
  t.regex(empty.html, /No step has been recorded yet/);
  t.deepEqual(empty.data.charts, []);
});

test('checkpoints are told by their place in the run and the beginning of their hash', async (t) => {
  const directory = temporaryDirectory(t);
  const weights = '0123456789abcdef'.repeat(4);
  const below = join(directory, 'checkpoints', 'step-00000600');
  const path = await writeHtmlReport(directory, {
    checkpoints: [
      { step: 600, directory: below, weights, bytes: 3 * 2 ** 20 },
      { step: 700, directory: '/elsewhere/step-00000700' },
    ],
  });
  const html = readFileSync(path, 'utf8');
  t.true(html.includes(`>${join('checkpoints', 'step-00000600')}</td><td>0123456789ab</td>`));
  t.false(html.includes(below));
  t.true(html.includes('>/elsewhere/step-00000700</td>'));
});

test('a corpus that holds nothing out, and steps that were taken again, are said', async (t) => {
  const directory = temporaryDirectory(t);
  const log = MetricsLog.open(join(directory, METRICS_FILE));
  for (const step of [1, 2, 3]) log.append(record(step));
  log.close();
  supersedeAfter(directory, 1);
  const html = readFileSync(await writeHtmlReport(directory, { hasValidation: false }), 'utf8');
  t.regex(html, /Validation loss<\/dt><dd class="value">none<.*no validation: the corpus holds nothing out/s);
  t.regex(html, /Taken again after the run was resumed: steps 2 to 3 \(superseded\/metrics-001\.jsonl\)/);
});
