/** The page around the plots: what can be read without a script. */

import {
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  formatNumber,
  groupDigits,
} from '../format.ts';
import type { SupersededSteps } from '../superseded.ts';
import type { PageAssets } from './assets.ts';
import type { RunSummary } from './collect.ts';
import type { ChartData, ReportData } from './data.ts';
import { type CollectedDiagnostics, layerTable } from './diagnostics.ts';
import {
  escapeHtml,
  escapeJson,
  type Figure,
  figureList,
  htmlDocument,
  panel,
  paragraph,
  table,
} from './elements.ts';
import type { ReportCheckpoint, ReportFacts, ReportSpike } from './report.ts';

/** What a run's files hold for the page. */
export interface CollectedRun {
  readonly summary: RunSummary;
  readonly data: ReportData;
  readonly diagnostics: CollectedDiagnostics;
  /** Stretches of steps that were taken again after a fault. */
  readonly takenAgain: readonly SupersededSteps[];
}

/** The whole report as one HTML document that refers to nothing outside itself. */
export function renderPage(
  facts: ReportFacts,
  { summary, data, diagnostics, takenAgain }: CollectedRun,
  assets: PageAssets,
): string {
  const title = facts.title ?? 'Training run';
  const draw = (wide: boolean) =>
    data.charts.filter((chart) => (chart.wide ?? false) === wide).map((chart) => chartPanel(chart, data));
  const wideCharts = draw(true).join('\n');
  const halfCharts = draw(false);
  return htmlDocument(
    `${title} · Sluice`,
    assets.styles,
    `<header>
<h1>${escapeHtml(title)}</h1>
${paragraph('subtitle', configSummary(facts.config))}
${paragraph('subtitle', timeSummary(summary))}
${summary.damagedLines > 0 ? paragraph('notice', `Left out of metrics.jsonl: ${counted(summary.damagedLines, 'damaged line')}.`) : ''}
${paragraph('notice', supersededSummary(takenAgain))}
${(facts.notices ?? []).map((notice) => paragraph('notice', notice)).join('\n')}
${figures(facts, summary)}
</header>
<main>
<noscript><p class="wide">The plots need JavaScript; nothing is loaded from elsewhere.</p></noscript>
${data.charts.length === 0 ? '<p class="wide">No step has been recorded yet.</p>' : ''}
${wideCharts}
${spikesPanel(facts.spikes ?? [])}
${data.load ? LOAD_PANEL : ''}
${halfCharts.join('\n')}
${checkpointsPanel(facts.checkpoints, halfCharts.length % 2 === 1)}
${diagnosticsSection(diagnostics, data)}
${samplePanel(facts.sample)}
${configPanel(facts.config)}
</main>
<script type="application/json" id="report-data">${escapeJson({ ...data, charts: [...data.charts, ...diagnostics.charts] })}</script>
<script>${assets.plotLibrary}</script>
<script type="module">${assets.script}</script>`,
  );
}

/** Says which steps the plots do not show as they were taken first. */
function supersededSummary(superseded: readonly SupersededSteps[]): string {
  if (superseded.length === 0) return '';
  const stretches = superseded.map(({ file, first, last }) => {
    const steps =
      first === last ? `step ${groupDigits(first)}` : `steps ${groupDigits(first)} to ${groupDigits(last)}`;
    return `${steps} (${file})`;
  });
  const shown = stretches.slice(0, 5);
  const more = stretches.length - shown.length;
  return `Taken again after the run was resumed: ${shown.join(', ')}${more > 0 ? ` and ${more} stretches more` : ''}.`;
}

function counted(count: number, noun: string): string {
  return `${groupDigits(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** Says what the marks in the plots mean, where there are any. */
function marksLegend(data: ReportData): string {
  return [
    data.spikes.length > 0 ? ' <span class="mark spike"></span>spike' : '',
    data.skipped.length > 0 ? ' <span class="mark skipped"></span>update left out' : '',
    data.rollbacks.length > 0
      ? ' <span class="mark quarantined"></span>steps that were given up; the arrow leads to where the run went back'
      : '',
  ].join('');
}

function chartPanel(chart: ReportData['charts'][number], data: ReportData): string {
  const hint = chart.wide
    ? `<p class="hint">Drag to zoom; double-click to see the whole run.${marksLegend(data)}</p>`
    : '';
  return panel(
    chart.title,
    chart.unit,
    `<div class="plot" data-chart="${escapeHtml(chart.id)}"></div>${hint}`,
    chart.wide ? 'panel wide' : 'panel',
  );
}

const LOAD_PANEL = panel(
  'Expert load',
  'tokens that an expert received ÷ its fair share',
  `<div class="heat-maps">
<div><h3>Layers at the end <span class="unit">choose a layer</span></h3><canvas class="interactive" data-heat="layers"></canvas></div>
<div><h3><span data-heat="title">All layers</span> <span class="unit">over the run</span></h3><canvas data-heat="time"></canvas></div>
</div>
<div class="heat-scale"><span>0</span><canvas data-heat="scale"></canvas><span>2 or more</span><span class="heat-readout" data-heat="readout"></span></div>`,
  'panel wide',
);

/** The numbers that one looks for first. */
function figures(facts: ReportFacts, summary: RunSummary): string {
  const cells: Figure[] = [];
  const cell = (label: string, value: string, unit = '', note = '') =>
    cells.push({ label, value, unit, note });
  const validation = facts.finalValidationLoss ?? summary.validation?.loss;
  if (validation !== undefined) {
    const note = facts.unigramLoss === undefined ? '' : againstUnigram(validation, facts.unigramLoss);
    cell('Validation loss', formatLoss(validation), 'nats', note);
    cell('Validation perplexity', formatNumber(Math.exp(validation)));
  } else if (facts.hasValidation === false) {
    cell('Validation loss', 'none', '', 'no validation: the corpus holds nothing out');
  }
  cell('Training loss', formatLoss(summary.trainingLoss), 'nats', 'smoothed, at the end');
  if (facts.parameters) {
    const { total, active } = facts.parameters;
    cell('Parameters', formatCount(total), '', active < total ? `${formatCount(active)} for each token` : '');
  }
  cell('Tokens', formatCount(summary.tokens), '', counted(summary.steps, 'step'));
  cell('Throughput', formatCount(summary.medianTokensPerSecond), 'tokens/s', 'median step');
  cell('Time in steps', formatDuration(summary.secondsOfSteps));
  cell('Peak memory', formatBytes(summary.peakMemoryBytes), '', 'of the worker that has most');
  const handled = [
    ...(summary.skippedUpdates > 0 ? [`${counted(summary.skippedUpdates, 'update')} left out`] : []),
    ...(facts.rollbacks?.length ? [`went back ${timesText(facts.rollbacks.length)}`] : []),
  ];
  cell('Spikes', String(facts.spikes?.length ?? 0), '', handled.join(', '));
  return figureList(cells);
}

function timesText(count: number): string {
  return count === 1 ? 'once' : `${groupDigits(count)} times`;
}

function againstUnigram(loss: number, unigram: number): string {
  const better = unigram - loss;
  const comparison = better >= 0 ? `${better.toFixed(2)} below` : `${(-better).toFixed(2)} above`;
  return `${comparison} the unigram model’s ${formatLoss(unigram)}`;
}

function timeSummary({ firstTime, lastTime }: RunSummary): string {
  const first = Date.parse(firstTime ?? '');
  const last = Date.parse(lastTime ?? '');
  if (!Number.isFinite(first) || !Number.isFinite(last)) return '';
  const minute = (time: number) => new Date(time).toISOString().slice(0, 16).replace('T', ' ');
  return `${minute(first)} to ${minute(last)} UTC`;
}

/** The architecture and recipe in a line, from those of the usual keys that are there. */
function configSummary(config: ReportFacts['config']): string {
  const at = (path: string): unknown =>
    path
      .split('.')
      .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined | null)?.[key], config);
  const part = (path: string, text: (value: string) => string): string[] => {
    const value = at(path);
    return typeof value === 'number' || typeof value === 'string' ? [text(String(value))] : [];
  };
  return [
    ...part('model.numLayers', (n) => `${n} layers`),
    ...part('model.hiddenSize', (n) => `hidden ${n}`),
    ...part(
      'model.numAttentionHeads',
      (n) => `${n} heads${part('model.numKeyValueHeads', (m) => `, ${m} key-value`).join('')}`,
    ),
    ...gatesText(at('model.gates')),
    ...part(
      'model.experts.count',
      (n) => `${n} experts${part('model.experts.topK', (k) => `, top ${k}`).join('')}`,
    ),
    ...part('data.sequenceLength', (n) => `sequences of ${n}`),
    ...part('batch.sequences', (n) => `batch of ${part('batch.ramp.from', (m) => `${m} to `).join('')}${n}`),
    ...part('parallel.workers', (n) => (n === '1' ? '1 worker' : `${n} workers`)),
  ].join(' · ');
}

/** One part for each gate: `elementwise gate`, `headwise value gate`. */
function gatesText(gates: unknown): string[] {
  if (!Array.isArray(gates)) return [];
  if (gates.length === 0) return ['no gate'];
  return gates.map(({ granularity, position }: Record<string, unknown>) =>
    position === 'sdpa' ? `${granularity} gate` : `${granularity} ${position} gate`,
  );
}

/** What was measured inside of the model: plots over the run, and the last measurement layer by layer. */
function diagnosticsSection({ charts, last }: CollectedDiagnostics, data: ReportData): string {
  if (!last) return '';
  const { headings, rows } = layerTable(last.layers);
  const measured = `after step ${groupDigits(last.step)}, on ${counted(last.sequences, last.split === 'train' ? 'training sequence' : 'held-out sequence')} of ${groupDigits(last.sequenceLength)} tokens`;
  return [
    '<h2 class="wide section">Inside the model</h2>',
    ...charts.map((chart: ChartData) => chartPanel(chart, data)),
    panel(
      'Layer by layer',
      measured,
      table(
        headings.map((heading) => [heading, 'number'] as const),
        rows,
      ),
      'panel wide',
    ),
  ].join('\n');
}

/** Rows of the table of spikes; the newest are told where there are more. */
const SPIKE_ROWS = 200;

function spikesPanel(spikes: readonly ReportSpike[]): string {
  if (spikes.length === 0) return '';
  const rows = spikes
    .slice(-SPIKE_ROWS)
    .map(({ start, end, peak, height, first, decision, leftOut, rate }) => [
      end === start ? groupDigits(start) : `${groupDigits(start)}–${groupDigits(end)}`,
      groupDigits(peak),
      ...[height, first, decision, leftOut, rate],
    ]);
  const headings = [
    ['Steps', 'number'],
    ['Peak at step', 'number'],
    ['Height', ''],
    ['Moved first', ''],
    ['Decision', 'free'],
    ['Samples left out', ''],
    ['Learning rate', ''],
  ] as const;
  const used = usedColumns(rows);
  const marked = 'marked in the plots of loss and gradient norm';
  return panel(
    'Spikes and decisions',
    rows.length < spikes.length ? `${marked}; the last ${SPIKE_ROWS} of ${spikes.length}` : marked,
    table(
      used.map((column) => headings[column]!),
      rows.map((row) => used.map((column) => row[column]!)),
    ),
    'panel wide',
  );
}

function samplePanel(sample: ReportFacts['sample']): string {
  if (sample === undefined) return '';
  const { prompt, text } = typeof sample === 'string' ? { prompt: '', text: sample } : sample;
  const start = prompt === '' ? '' : `<span class="prompt">${escapeHtml(prompt)}</span>`;
  const unit = prompt === '' ? '' : 'the prompt, and how the model went on';
  return panel('Sample', unit, `<p class="sample">${start}${escapeHtml(text)}</p>`, 'panel wide');
}

/** Of a content hash: enough to tell any two apart. */
const HASH_DIGITS = 12;

/** In half the width, beside the last plot, when `beside` and narrow enough. */
function checkpointsPanel(checkpoints: readonly ReportCheckpoint[] | undefined, beside: boolean): string {
  if (checkpoints === undefined || checkpoints.length === 0) return '';
  const rows = checkpoints.map(({ step, directory, weights, bytes, time, note }) => [
    groupDigits(step),
    directory,
    weights?.slice(0, HASH_DIGITS) ?? '',
    bytes === undefined ? '' : formatBytes(bytes),
    time ?? '',
    note ?? '',
  ]);
  const headings = [
    ['Step', 'number'],
    ['Directory', 'free'],
    ['Weights', ''],
    ['Size', 'number'],
    ['Saved', ''],
    ['Note', 'free'],
  ] as const;
  const used = usedColumns(rows);
  const content = table(
    used.map((column) => headings[column]!),
    rows.map((row) => used.map((column) => row[column]!)),
  );
  return panel('Checkpoints', '', content, beside && used.length < 5 ? 'panel' : 'panel wide');
}

/** Columns in which some row has something. */
function usedColumns(rows: readonly (readonly string[])[]): number[] {
  return rows[0]?.flatMap((_, column) => (rows.some((row) => row[column] !== '') ? [column] : [])) ?? [];
}

/** Each section of the configuration, flattened; what stands outside any comes first. */
function configPanel(config: ReportFacts['config']): string {
  if (config === undefined) return '';
  const loose: [string, string][] = [];
  const sections: [string, [string, string][]][] = [];
  for (const [key, value] of Object.entries(config)) {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      sections.push([key, flatten(value as Record<string, unknown>)]);
    } else if (value !== undefined) loose.push([key, scalar(value)]);
  }
  if (loose.length > 0) sections.unshift(['run', loose]);
  const content = sections
    .map(([name, entries]) => {
      const list = entries
        .map(([key, value]) => `<dt>${escapeHtml(key)}</dt><dd>${escapeHtml(value)}</dd>`)
        .join('');
      return `<section><h3>${escapeHtml(name)}</h3><dl>${list}</dl></section>`;
    })
    .join('\n');
  return panel('Configuration', 'resolved', `<div class="config">${content}</div>`, 'panel wide');
}

function flatten(object: Record<string, unknown>, prefix = ''): [string, string][] {
  return Object.entries(object).flatMap(([key, value]): [string, string][] => {
    if (value === undefined) return [];
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return flatten(value as Record<string, unknown>, `${prefix}${key}.`);
    }
    return [[`${prefix}${key}`, scalar(value)]];
  });
}

function scalar(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
