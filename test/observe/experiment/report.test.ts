import { readdirSync, readFileSync } from 'node:fs';
import vm from 'node:vm';
import {
  type ExperimentReportExtras,
  type ExperimentResults,
  writeExperimentReport,
  writeFindLrReport,
} from '@sluice/observe';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { meanCurve } from '../../../packages/observe/src/experiment/report/curves.ts';
import type { ExperimentPageData } from '../../../packages/observe/src/experiment/report/data.ts';
import { dashOf } from '../../../packages/observe/src/figures/svg.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';
import { anyFindLrResults, findLrResults } from './support/findLr.ts';
import { anyResults, diverged, results, row, run } from './support/results.ts';

async function report(t: ExecutionContext, made: ExperimentResults, extras: ExperimentReportExtras = {}) {
  const html = readFileSync(await writeExperimentReport(temporaryDirectory(t), made, extras), 'utf8');
  const json = /<script type="application\/json" id="report-data">(.*?)<\/script>/s.exec(html)![1]!;
  return { html, data: JSON.parse(json) as ExperimentPageData };
}

/** The panel of that heading, as text without elements. */
function panelText(html: string, heading: string): string {
  const panel = html.split('<section ').find((part) => part.includes(`<h2>${heading}</h2>`)) ?? '';
  return panel
    .replaceAll(/<title>.*?<\/title>/g, '')
    .replaceAll(/<[^>]+>/g, ' ')
    .replaceAll(/\s+/g, ' ');
}

/** What the page has beside its scripts and styles, which are the same for all. */
function content(html: string): string {
  return html.replaceAll(/<style>.*?<\/style>|<script[^>]*>.*?<\/script>/gs, '');
}

/** Whether a page refers to nothing outside itself, and holds nothing that a text of the results brought. */
function isSound(html: string): boolean {
  const own = content(html);
  return (
    !/<(link|img|iframe|b|i)\b|\bsrc=|\bhref=|@import|url\(|https?:|onerror="/.test(own) &&
    html.split('</script>').length - 1 === 3 &&
    /Content-Security-Policy" content="default-src 'none'/.test(html)
  );
}

const gated = (validationLoss: number) => ({
  validationLoss,
  diagnosis: {
    ...{ firstTokenAttention: 0.05, massiveActivation: 20, feedForwardActivation: 5, gateScoreMean: 0.12 },
    ...{ gateBelowTenth: 0.4, largestAttentionLogit: 9 },
    layers: [],
  },
});

const paper = { perplexity: 6.026, firstTokenAttention: 0.467, mmlu: 58.79 };

test('differences are told with their interval, the seeds, and the paper’s', async (t) => {
  const rows = [row('baseline', { paper }), row('gate', { paper: { perplexity: 5.761 } })];
  const runs = [1, 2, 3].flatMap((seed) => [
    run('baseline', seed, { validationLoss: 4 + seed / 10 }),
    run('gate', seed, gated(3.9 + seed / 10 + (seed === 2 ? 0.03 : 0))),
  ]);
  const { html } = await report(t, results({ rows, runs }));
  const text = panelText(html, 'Differences to the baseline');
  // Differences −0.1, −0.07, −0.1: mean −0.09, spread 0.01732, and 4.3027 · 0.01732 ÷ √3 = 0.0430.
  t.regex(text, /method of gate −0\.0900 \[−0\.1330, −0\.0470\] lower with 3 of 3 seeds/);
  t.regex(text, /paper −0\.0450/, 'ln(5.761 ÷ 6.026)');
  t.regex(text, /against method of baseline; left is better/);
  t.regex(text, /Student’s t: right if seeds spread normally, which fewer than ten cannot show/);
  t.regex(html, /n = 3 seeds\. So few tell large differences only/);
  const losses = panelText(html, 'Losses');
  t.regex(
    losses,
    /method of baseline baseline 7\.00 M 3\.50 M 4\.00e-3 3 of 3 4\.1000 ± 0\.0000 4\.2000 ± 0\.1000/,
  );
  t.regex(losses, /6\.026/);
  const measured = panelText(html, 'Sinks, massive activations, gates');
  t.regex(measured, /method of baseline baseline 0\.200 ± 0 0\.467 60 ± 0/);
  t.regex(measured, /method of gate gate 0\.0500 ± 0 20 ± 0 0\.120 ± 0/);
  t.regex(panelText(html, 'The paper’s other numbers'), /not measured here .* mmlu .* 58\.79/);
});

test('runs that diverged are results: their step, their reason, their seed left out of the difference', async (t) => {
  const runs = [
    ...[1, 2].map((seed) => run('baseline', seed)),
    run('gate', 1, { validationLoss: 4, spikes: 3 }),
    diverged('gate', 2, 120),
  ];
  const { html, data } = await report(t, results({ runs, seeds: [1, 2, 3] }));
  t.regex(html, /1 run diverged, 2 runs of 6 are missing: no mean holds them; see below/);
  t.regex(
    panelText(html, 'Runs that did not finish'),
    /2 4\.00e-3 diverged 120 of 400 the loss became NaN at step 120 \(SLUICE_E_DIVERGED\)/,
  );
  const outcomes = panelText(html, 'Spikes and outcomes');
  t.regex(outcomes, /method of gate gate 3 spikes ✕ diverged at 120, 2 spikes not run 9\.62/);
  const differences = panelText(html, 'Differences to the baseline');
  t.regex(differences, /−0\.2000 lower with 1 of 1 seed/);
  t.regex(
    differences,
    /left out: seed 2: it diverged at step 120; seed 3: it has no run, its baseline has no run/,
  );
  t.regex(panelText(html, 'Losses'), /1 of 3 \(1 diverged, 1 not run\)/);
  const loss = data.charts.find(({ id }) => id === 'loss')!;
  t.deepEqual(
    loss.lines.map(({ row: of, seed, isBroken }) => [of, seed, isBroken]),
    [
      [0, 1, false],
      [0, 2, false],
      [0, null, false],
      [1, 2, true],
      [1, null, false],
    ],
    'the mean of one run is that run',
  );
});

test('one seed claims no interval and no spread', async (t) => {
  const runs = [run('baseline', 1), run('gate', 1, { validationLoss: 4.1 })];
  const { html } = await report(t, results({ runs, seeds: [1] }));
  t.regex(html, /One seed: how much a result owes to chance cannot be told/);
  t.regex(panelText(html, 'Differences to the baseline'), /−0\.1000 lower with 1 of 1 seed/);
  t.regex(panelText(html, 'Losses'), /1 of 1 4\.1000 4\.2000 66\.686 /);
});

test('what computed a row is beside its losses where rows differ in that, and in the heading alone otherwise', async (t) => {
  const runs = [run('baseline', 1), run('gate', 1, { arithmetic: 'cuda-2-f32' }), diverged('gate', 2, 9)];
  const { html } = await report(t, results({ runs, seeds: [1, 2] }));
  t.regex(panelText(html, 'Losses'), /Arithmetic .* baseline baseline fma-1 .* gate gate cuda-2-f32 /);
  const alike = await report(t, results());
  t.notRegex(panelText(alike.html, 'Losses'), /Arithmetic|fma-1/);
  t.regex(content(alike.html), /fma-1/);
});

test('what models were asked has a column each, in percent', async (t) => {
  const answers = (accuracy: number) => ({
    retrieval: { near: { accuracy, recall: accuracy, choiceAccuracy: 1, answerLoss: 1 } },
  });
  const runs = [run('baseline', 1, answers(0.25)), run('baseline', 2, answers(0.35)), run('gate', 1)];
  const { html } = await report(t, results({ runs, seeds: [1, 2] }));
  t.regex(panelText(html, 'Retrieval'), /near method of baseline baseline 30 ± 7/);
});

test('without a gate, a diagnosis or curves their panels are not there', async (t) => {
  const bare = { diagnosis: null, validations: [], curve: { steps: [], loss: [], gradientNorm: [] } };
  const runs = [run('baseline', 1, bare), run('gate', 1, bare)];
  const { html, data } = await report(t, results({ runs, seeds: [1] }));
  t.deepEqual(data.charts, []);
  for (const heading of [
    'Training loss',
    'Sinks, massive activations, gates',
    'Retrieval',
    'Gate scores by layer',
  ]) {
    t.is(panelText(html, heading), '', heading);
  }
  const some = await report(t, results());
  t.is(panelText(some.html, 'Gate scores by layer'), '');
  t.regex(
    panelText(some.html, 'Attention to the first token by layer'),
    /method of baseline .*0\.100 to 0\.300/,
  );
});

test('rows of one method at several learning rates are told apart by them, and drawn against them', async (t) => {
  const rows = ['low', 'high'].map((name) => row(name, { method: 'plain', baseline: 'low' }));
  const runs = [1, 2].flatMap((seed) => [
    run('low', seed, { learningRate: 0.002 }),
    seed === 1
      ? run('high', seed, { learningRate: 0.008 })
      : { ...diverged('high', seed, 9), learningRate: 0.008 },
  ]);
  const { html, data } = await report(t, results({ rows, runs, seeds: [1, 2] }));
  t.deepEqual(
    data.rows.map(({ label }) => label),
    ['plain at 2.00e-3', 'plain at 8.00e-3'],
  );
  const panel = html.split('<section ').find((part) => part.includes('<h2>Loss against learning rate</h2>'))!;
  t.is(panel.match(/<circle /g)!.length, 3);
  t.regex(panel, /plain at 8\.00e-3, seed 2: diverged at step 9<\/title>/);
  const single = await report(t, results());
  t.is(panelText(single.html, 'Loss against learning rate'), '');
});

test('a search for the largest stable rate is a page of its own, or a part of an experiment’s', async (t) => {
  const found = findLrResults();
  const path = await writeFindLrReport(temporaryDirectory(t), found, { command: 'sluice find-lr a.yaml' });
  const { html } = await report(t, results(), { findLr: found, command: 'sluice experiment "a b".yaml' });
  for (const page of [readFileSync(path, 'utf8'), html]) {
    t.true(isSound(page));
    const text = panelText(page, 'Largest stable learning rate');
    // The geometric mean of 2e-3, 4e-3 and 2e-3, and their geometric standard deviation.
    t.regex(text, /method of baseline baseline 2\.52e-3 ×\/÷ 1\.49 3 of 3 seeds/);
    t.regex(text, /Not tried: rates above 1\.6e-2/);
    t.regex(text, /differ by a factor of 2: no difference smaller than that can be told/);
    t.regex(text, /seed 3: at least, none unstable|seed 2: at least, none unstable/);
    t.regex(panelText(page, 'Every run of the search'), /30 runs/);
  }
  t.regex(
    panelText(html, 'To reproduce'),
    /sluice experiment &quot;a b&quot;\.yaml Experiment table9 at the scale tiny/,
  );
});

test('the page is one file that loads nothing, its scripts parse, and its bytes are those of the results', async (t) => {
  const directory = temporaryDirectory(t);
  const html = readFileSync(await writeExperimentReport(directory, results()), 'utf8');
  t.deepEqual(readdirSync(directory), ['report.html']);
  t.true(isSound(html));
  const scripts = [...html.matchAll(/<script(?: type="module")?>(.*?)<\/script>/gs)].map(
    (match) => match[1]!,
  );
  t.is(scripts.length, 2);
  for (const script of scripts) {
    t.notRegex(script, /^(import|export) /m);
    t.notThrows(() => new vm.Script(`(() => {${script}})`));
  }
  t.is((await report(t, results())).html, html);
  t.notRegex(content(html), /20\d\d-\d\d-\d\d/, 'no date');
});

test('any results give a page, and no text of theirs becomes an element', async (t) => {
  const directory = temporaryDirectory(t);
  const sound = fc.asyncProperty(
    anyResults,
    fc.option(anyFindLrResults, { nil: undefined }),
    async (made, findLr) => {
      const path = await writeExperimentReport(directory, made, { findLr, command: '</script><b>"&' });
      return isSound(readFileSync(path, 'utf8'));
    },
  );
  await t.notThrowsAsync(() => fc.assert(sound, { numRuns: 60 }));
});

test('hundreds of rows make a page of bounded size, of which the first rows are shown', async (t) => {
  const names = Array.from({ length: 300 }, (_, i) => (i === 0 ? 'baseline' : `row-${i}`));
  const steps = Array.from({ length: 500 }, (_, i) => i + 1);
  const curve = { steps, loss: steps.map((step) => 9 / step), gradientNorm: steps.map(() => 1) };
  const rows = names.map((name) => row(name));
  const runs = names.flatMap((name) => [1, 2].map((seed) => run(name, seed, { curve })));
  const { html, data } = await report(t, results({ rows, runs, seeds: [1, 2] }));
  t.deepEqual(data.shown, [0, 1, 2, 3, 4, 5, 6, 7]);
  t.is(data.rows.length, 300);
  const points = data.charts
    .flatMap(({ lines }) => lines)
    .reduce((sum, { steps: own }) => sum + own.length, 0);
  t.true(points < 150_000, `${points} points`);
  t.true(html.length < 8e6, `${html.length} characters`);
  t.regex(html, /<details><summary>600 runs<\/summary>/);
});

test('the mean of curves is taken where all have a value, between their points by straight lines', (t) => {
  const mean = meanCurve([
    { steps: [0, 10, 20, 30], values: [4, 3, null, 1] },
    { steps: [0, 20, 40], values: [2, 1, 1] },
  ]);
  t.deepEqual(mean, { steps: [0, 10, 20, 30], values: [3, 2.25, null, 1] });
  t.is(meanCurve([]), undefined);
});

test('32 rows have lines of their own, and colours that some see alike differ in their strokes', (t) => {
  const lines = Array.from({ length: 32 }, (_, i) => `${i % 8} ${dashOf(i).join(',')}`);
  t.is(new Set(lines).size, 32);
  for (let i = 0; i < 7; i++) t.notDeepEqual(dashOf(i), dashOf(i + 1));
});
