/** The page of an experiment: what its runs came to, beside each other and beside the paper. */

import { counted, formatCount, formatLoss } from '../../format.ts';
import type { PageAssets } from '../../report/assets.ts';
import {
  escapeHtml,
  escapeJson,
  type Figure,
  figureList,
  htmlDocument,
  paragraph,
} from '../../report/elements.ts';
import { compareRows, type RowSummary, summarizeRows } from '../compare.ts';
import type { FindLrResults } from '../findLr.ts';
import type { ExperimentResults } from '../results.ts';
import { comparisonPanel } from './comparisons.ts';
import { curveData, curvePanels } from './curves.ts';
import { layerPanels } from './layers.ts';
import { findLrPanels, learningRatePanel } from './rates.ts';
import { diagnosisPanel, lossPanel, paperPanel, retrievalPanel } from './resultTables.ts';
import { faultsPanel, outcomePanel, reproductionPanel, runsPanel } from './runs.ts';

/** What a report tells beside the results. */
export interface ExperimentReportExtras {
  /** The command that gave the results, as one would type it. */
  readonly command?: string | undefined;
  /** A search for the largest stable learning rates of the same variants. */
  readonly findLr?: FindLrResults | undefined;
}

/** The whole report as one HTML document that refers to nothing outside itself. */
export function renderExperiment(
  results: ExperimentResults,
  { command, findLr }: ExperimentReportExtras,
  assets: PageAssets,
): string {
  const rows = summarizeRows(results);
  const names = rows.map(({ row }) => row.name);
  const data = curveData(rows);
  const panels = [
    comparisonPanel(compareRows(results), rows),
    lossPanel(rows),
    diagnosisPanel(rows),
    retrievalPanel(rows),
    ...curvePanels(data, names),
    learningRatePanel(rows),
    ...(findLr ? findLrPanels(findLr) : []),
    outcomePanel(rows, results.seeds),
    faultsPanel(rows),
    ...layerPanels(rows),
    paperPanel(rows),
    runsPanel(rows),
    rowNotes(rows),
    reproductionPanel(results, command),
  ];
  const head = [...notices(results, rows), figures(results, rows)];
  return document(results, assets, head, panels, data, rows.length >= LEAST_ROWS_OF_LONG);
}

/** The report of a search for the largest stable learning rates by itself. */
export function renderFindLr(
  results: FindLrResults,
  command: string | undefined,
  assets: PageAssets,
): string {
  const seeds = [...new Set(results.variants.flatMap((variant) => variant.seeds.map(({ seed }) => seed)))];
  const probes = results.variants.flatMap((variant) => variant.seeds.flatMap((search) => search.probes));
  const count = (outcome: string) => String(probes.filter((probe) => probe.outcome === outcome).length);
  const head = figureList([
    { label: 'Variants', value: String(results.variants.length) },
    { label: 'Seeds', value: String(seeds.length), note: seeds.join(', ') },
    { label: 'Runs', value: String(probes.length), note: counted(results.steps, 'step') },
    { label: 'Stable', value: count('stable') },
    { label: 'Unstable', value: count('unstable') },
    { label: 'Failed', value: count('failed') },
    ...unigramFigure(results),
  ]);
  const panels = [...findLrPanels(results), reproductionPanel({ ...results, seeds }, command)];
  return document(results, assets, [head], panels, { rows: [], shown: [], charts: [] });
}

/** Rows from which on laying out what is not in sight would take too long. */
const LEAST_ROWS_OF_LONG = 60;

type Head = Pick<ExperimentResults, 'title' | 'source' | 'scale' | 'version' | 'arithmetic'>;

function document(
  { title, source, scale, version, arithmetic }: Head,
  assets: PageAssets,
  head: readonly string[],
  panels: readonly string[],
  data: unknown,
  isLong = false,
): string {
  const subtitle = [...(source === null ? [] : [source]), `scale ${scale}`, `Sluice ${version}`, arithmetic];
  return htmlDocument(
    `${title} · Sluice`,
    assets.styles,
    `<header>
<h1>${escapeHtml(title)}</h1>
${paragraph('subtitle', subtitle.join(' · '))}
${head.join('\n')}
</header>
<main${isLong ? ' class="long"' : ''}>
<noscript><p class="wide">The curves need JavaScript; nothing is loaded from elsewhere.</p></noscript>
${panels.filter((text) => text !== '').join('\n')}
</main>
<script type="application/json" id="report-data">${escapeJson(data)}</script>
<script>${assets.plotLibrary}</script>
<script type="module">${assets.script}</script>`,
  );
}

/** What is to be known before any number is read. */
function notices(
  { notes, scale, seeds, rows: { length } }: ExperimentResults,
  rows: readonly RowSummary[],
): string[] {
  const total = (outcome: keyof RowSummary['outcomes']) =>
    rows.reduce((sum, { outcomes }) => sum + outcomes[outcome], 0);
  const absent = total('pending') + rows.reduce((sum, { missing }) => sum + missing.length, 0);
  const broken = [
    ...(total('diverged') > 0 ? [`${counted(total('diverged'), 'run')} diverged`] : []),
    ...(total('failed') > 0 ? [`${counted(total('failed'), 'run')} failed`] : []),
    ...(absent > 0 ? [`${counted(absent, 'run')} of ${length * seeds.length} are missing`] : []),
  ];
  return [
    paragraph('subtitle', notes ?? ''),
    scale === 'full' || !rows.some(({ row }) => Object.keys(row.paper).length > 0)
      ? ''
      : paragraph(
          'notice',
          `These models are smaller than the paper’s, and trained on less (scale ${scale}): compare with the paper the order of the rows and the signs of their differences, not the numbers.`,
        ),
    paragraph('notice', seedsText(seeds.length)),
    broken.length > 0 ? paragraph('notice', `${broken.join(', ')}: no mean holds them; see below.`) : '',
  ];
}

function seedsText(seeds: number): string {
  if (seeds === 0) return 'Without a seed there is no run.';
  if (seeds === 1) return 'One seed: how much a result owes to chance cannot be told.';
  const few =
    seeds < 10
      ? ' So few tell large differences only; a difference whose interval holds zero may be chance.'
      : '';
  return `n = ${counted(seeds, 'seed')}.${few}`;
}

function figures(results: ExperimentResults, rows: readonly RowSummary[]): string {
  const { seeds, runs, unigramLoss } = results;
  const total = (outcome: keyof RowSummary['outcomes']) =>
    rows.reduce((sum, { outcomes }) => sum + outcomes[outcome], 0);
  const finished = runs.filter(({ outcome }) => outcome === 'finished');
  const all = rows.length * seeds.length;
  const list: Figure[] = [
    { label: 'Rows', value: String(rows.length) },
    { label: 'Seeds', value: String(seeds.length), note: seeds.slice(0, 12).join(', ') },
    { label: 'Runs finished', value: String(total('finished')), unit: `of ${all}` },
    { label: 'Diverged', value: String(total('diverged')) },
    ...(total('failed') > 0 ? [{ label: 'Failed', value: String(total('failed')) }] : []),
    {
      label: 'Tokens of a run',
      value: rangeText(finished.map(({ tokens }) => tokens)),
      note: `${rangeText(finished.map(({ steps }) => steps))} steps`,
    },
    { label: 'Parameters', value: rangeText(rows.map(({ row }) => row.parameters.total)) },
    {
      label: 'Spikes',
      value: String(runs.reduce((sum, { spikes }) => sum + spikes, 0)),
      note: 'in all runs',
    },
    ...unigramFigure({ unigramLoss }),
  ];
  return figureList(list);
}

function unigramFigure({ unigramLoss }: Pick<ExperimentResults, 'unigramLoss'>): Figure[] {
  if (unigramLoss === null) return [];
  return [{ label: 'Unigram model', value: formatLoss(unigramLoss), unit: 'nats', note: 'learnt no order' }];
}

function rangeText(values: readonly number[]): string {
  if (values.length === 0) return '–';
  const [low, high] = [formatCount(Math.min(...values)), formatCount(Math.max(...values))];
  return low === high ? low : `${low} to ${high}`;
}

function rowNotes(rows: readonly RowSummary[]): string {
  const items = rows.flatMap(({ row, label }) =>
    row.notes === null ? [] : [`<dt>${escapeHtml(label)}</dt><dd>${escapeHtml(row.notes)}</dd>`],
  );
  if (items.length === 0) return '';
  return `<section class="panel wide"><div class="heading"><h2>Notes on rows</h2></div><dl class="notes">${items.join('')}</dl></section>`;
}
