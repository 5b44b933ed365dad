/** The sections of a run's page, each by its name: what a report holds, and what a live page exchanges one by one. */

import {
  counted,
  formatBytes,
  formatCount,
  formatDuration,
  formatLoss,
  formatNumber,
  groupDigits,
} from '../format.ts';
import type { SupersededSteps } from '../superseded.ts';
import type { RunSummary } from './charts.ts';
import { configPanel, configSummary, differencesPanel } from './configuration.ts';
import type { GateHistogramData, LayerMapData, ReportData } from './data.ts';
import { type CollectedDiagnostics, layerTable } from './diagnostics.ts';
import { escapeHtml, type Figure, figureList, panel, paragraph, table } from './elements.ts';
import type { ReportFacts } from './facts.ts';
import { type ShownSample, samplesPanel } from './samples.ts';
import { checkpointsPanel, spikesPanel, storyPanel, workersPanel } from './tables.ts';

/** What a run's files hold for the page. */
export interface CollectedRun {
  readonly summary: RunSummary;
  readonly data: ReportData;
  readonly diagnostics: CollectedDiagnostics;
  readonly samples: readonly ShownSample[];
  /** Stretches of steps that were taken again after a fault. */
  readonly takenAgain: readonly SupersededSteps[];
}

export interface Section {
  readonly id: string;
  readonly html: string;
}

/** Title and figures: what stands above the plots. */
export function headerOf(facts: ReportFacts, { summary, takenAgain }: CollectedRun): string {
  return `<h1>${escapeHtml(facts.title ?? 'Training run')}${statusBadge(facts)}</h1>
${paragraph('subtitle', configSummary(facts.config))}
${paragraph('subtitle', timeSummary(summary))}
${summary.damagedLines > 0 ? paragraph('notice', `Left out of metrics.jsonl: ${counted(summary.damagedLines, 'damaged line')}.`) : ''}
${paragraph('notice', supersededSummary(takenAgain))}
${(facts.notices ?? []).map((notice) => paragraph('notice', notice)).join('\n')}
${figures(facts, summary)}`;
}

/** What stands below the header, in this order; sections without content are left out. */
export function sectionsOf(
  facts: ReportFacts,
  { data, diagnostics, samples }: Pick<CollectedRun, 'data' | 'diagnostics' | 'samples'>,
): Section[] {
  const charts = data.charts.map((chart) => ({
    id: `chart-${chart.id}`,
    wide: chart.wide ?? false,
    html: chartPanel(chart, data),
  }));
  const halfCharts = charts.filter(({ wide }) => !wide);
  const sections: Section[] = [
    {
      id: 'empty',
      html: data.charts.length === 0 ? '<p class="wide">No step has been recorded yet.</p>' : '',
    },
    ...charts.filter(({ wide }) => wide),
    { id: 'spikes', html: spikesPanel(facts.spikes ?? []) },
    { id: 'load', html: data.load ? LOAD_PANEL : '' },
    ...halfCharts,
    { id: 'checkpoints', html: checkpointsPanel(facts.checkpoints, halfCharts.length % 2 === 1) },
    { id: 'workers', html: workersPanel(facts.workers) },
    ...diagnosticsSections(diagnostics, data),
    { id: 'samples', html: samplesPanel(samples) },
    { id: 'story', html: storyPanel(facts.story) },
    { id: 'differences', html: differencesPanel(facts.differences) },
    { id: 'configuration', html: configPanel(facts.config) },
  ];
  return sections.filter(({ html }) => html !== '').map(({ id, html }) => ({ id, html }));
}

function statusBadge({ status }: ReportFacts): string {
  return status === undefined ? '' : ` <span class="badge ${status.state}">${escapeHtml(status.text)}</span>`;
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
    `<div class="plot" data-chart="${escapeHtml(chart.id)}" role="group" aria-label="${escapeHtml(chart.title)}"></div>${hint}`,
    chart.wide ? 'panel wide' : 'panel',
  );
}

const LOAD_PANEL = panel(
  'Expert load',
  'tokens that an expert received ÷ its fair share',
  `<div class="heat-maps">
<div><h3>Layers at the end <span class="unit">choose a layer</span></h3><canvas class="interactive" data-heat="layers" tabindex="0" role="group" aria-label="Load of the experts of each layer; up and down choose a layer"></canvas></div>
<div><h3><span data-heat="title">All layers</span> <span class="unit">over the run</span></h3><canvas data-heat="time" role="img" aria-label="Load of the experts over the run"></canvas></div>
</div>
<div class="heat-scale"><span>0</span><canvas data-heat="load-scale" aria-hidden="true"></canvas><span>2 or more</span><span class="heat-readout" data-heat="load-readout"></span></div>`,
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

/** What was measured inside of the model: plots over the run, and the last measurement layer by layer. */
function diagnosticsSections(
  { charts, last, layerMaps, gateHistograms }: CollectedDiagnostics,
  data: ReportData,
): Section[] {
  if (!last) return [];
  const { headings, rows } = layerTable(last.layers);
  const measured = `after step ${groupDigits(last.step)}, on ${counted(last.sequences, last.split === 'train' ? 'training sequence' : 'held-out sequence')} of ${groupDigits(last.sequenceLength)} tokens`;
  const layers = table(
    headings.map((heading) => [heading, 'number'] as const),
    rows,
  );
  return [
    { id: 'inside', html: '<h2 class="wide section">Inside the model</h2>' },
    ...layerMaps.map((map) => ({ id: map.id, html: layerMapPanel(map) })),
    ...(gateHistograms ? gatePanels(gateHistograms) : []),
    ...charts.map((chart) => ({ id: `chart-${chart.id}`, html: chartPanel(chart, data) })),
    { id: 'layers', html: panel('Layer by layer', measured, layers, 'panel wide') },
  ];
}

const SCALE_AND_READOUT =
  '<div class="heat-scale"><span data-end="low"></span><canvas data-heat="scale" aria-hidden="true"></canvas><span data-end="high"></span><span class="heat-readout" data-heat="readout"></span></div>';

/** A number of all layers over the run. */
function layerMapPanel({ id, title, unit }: LayerMapData): string {
  return panel(
    title,
    unit,
    `<div class="layer-map" data-map="${escapeHtml(id)}">${mapCanvas(title)}${SCALE_AND_READOUT}</div>`,
  );
}

/** The scores of each gate over the run. */
function gatePanels({ gates }: GateHistogramData): Section[] {
  return gates.map(({ name }, index) => {
    const title =
      gates.length === 1 ? 'Distribution of gate scores' : `Distribution of the scores of ${name}`;
    return {
      id: `gate-histogram-${index}`,
      html: panel(
        title,
        'share of scores in each bin, mean of layers',
        `<div class="layer-map" data-map="gate-histogram-${index}">${mapCanvas(title)}${SCALE_AND_READOUT}</div>`,
      ),
    };
  });
}

function mapCanvas(title: string): string {
  return `<canvas data-heat="map" role="img" aria-label="${escapeHtml(title)} over the run"></canvas>`;
}
