/** The curves of all runs: a thin line for each seed, a bold one for the mean of a row's seeds that finished. */

import { COLOR_NAMES, dashOf } from '../../figures/svg.ts';
import { selectExtremes } from '../../report/downsample.ts';
import { escapeHtml, panel, rowSample } from '../../report/elements.ts';
import type { RowSummary } from '../compare.ts';
import type { ExperimentRun } from '../results.ts';
import type { ExperimentChart, ExperimentLine, ExperimentPageData } from './data.ts';

/** Points of a chart in the page, of all lines together; no line has fewer than `FEWEST`. */
const POINTS = 60_000;
const FEWEST = 40;

/** Rows that are shown at first where there are more; the others can be chosen. */
const SHOWN = 8;

interface Curve {
  readonly steps: readonly number[];
  readonly values: readonly (number | null)[];
}

interface CurveKind extends Omit<ExperimentChart, 'lines'> {
  readonly title: string;
  readonly unit: string;
  readonly of: (run: ExperimentRun) => Curve;
}

const KINDS: readonly CurveKind[] = [
  {
    ...{ id: 'loss', title: 'Training loss', unit: 'nats a token', numbers: 'plain', wide: true },
    of: ({ curve }) => ({ steps: curve.steps, values: curve.loss }),
  },
  {
    ...{ id: 'validation', title: 'Validation loss', unit: 'nats a token', numbers: 'plain' },
    of: ({ validations }) => ({
      steps: validations.map(({ step }) => step),
      values: validations.map(({ loss }) => loss),
    }),
  },
  {
    ...{ id: 'gradient-norm', title: 'Gradient norm', unit: 'L2, before clipping', numbers: 'plain' },
    logarithmic: true,
    of: ({ curve }) => ({ steps: curve.steps, values: curve.gradientNorm }),
  },
];

/** What the page's script draws; charts without a line are left out. */
export function curveData(rows: readonly RowSummary[]): ExperimentPageData {
  const count = rows.reduce((sum, { runs }) => sum + runs.length + 1, 0);
  const points = Math.max(FEWEST, Math.floor(POINTS / Math.max(1, count)));
  const charts = KINDS.map(({ title, unit, of, ...chart }): ExperimentChart => {
    const lines = rows.flatMap((row, index) => linesOf(row, index, of, chart.logarithmic ?? false));
    return { ...chart, lines: lines.map((line) => thinned(line, points)) };
  });
  return {
    rows: rows.map(({ label }, index) => ({
      label,
      color: COLOR_NAMES[index % COLOR_NAMES.length]!,
      dash: dashOf(index),
    })),
    shown: rows.slice(0, SHOWN).map((_, index) => index),
    charts: charts.filter(({ lines }) => lines.length > 0),
  };
}

/** Lines of a row that have a value: of a single run that finished, the mean alone. */
function linesOf(
  { runs }: RowSummary,
  row: number,
  of: CurveKind['of'],
  logarithmic: boolean,
): ExperimentLine[] {
  const curves = runs.map((run) => ({ run, curve: sound(of(run), logarithmic) }));
  const finished = curves.filter(({ run }) => run.outcome === 'finished').map(({ curve }) => curve);
  const mean = meanCurve(finished);
  const isLine = ({ values }: Curve) => values.some((value) => value !== null);
  const seeds = curves.filter(({ run }) => finished.length > 1 || run.outcome !== 'finished');
  return [
    ...seeds.map(({ run, curve }) => ({
      ...{ row, seed: run.seed, ...curve },
      isBroken: run.outcome === 'diverged' || run.outcome === 'failed',
    })),
    ...(mean ? [{ row, seed: null, isBroken: false, ...mean }] : []),
  ].filter(isLine);
}

/** In ascending order of steps, as plots need them; zero has no place on a logarithmic axis. */
function sound({ steps, values }: Curve, logarithmic: boolean): Curve {
  const kept: { step: number; value: number | null }[] = [];
  for (let i = 0; i < Math.min(steps.length, values.length); i++) {
    const [step, value] = [steps[i]!, values[i]!];
    if (step <= (kept.at(-1)?.step ?? -1)) continue;
    kept.push({ step, value: value !== null && logarithmic && value <= 0 ? null : value });
  }
  return { steps: kept.map(({ step }) => step), values: kept.map(({ value }) => value) };
}

/** The mean of curves over the steps of the first one, between their points by straight lines; null where one has no value. */
export function meanCurve(curves: readonly Curve[]): Curve | undefined {
  const [first] = curves;
  if (!first) return undefined;
  const at = curves.map(reader);
  const values = first.steps.map((step) => {
    let sum = 0;
    for (const valueAt of at) {
      const value = valueAt(step);
      if (value === null) return null;
      sum += value;
    }
    return Number.isFinite(sum) ? sum / curves.length : null;
  });
  return { steps: first.steps, values };
}

/** Gives the values of a curve at ascending steps. */
function reader({ steps, values }: Curve): (step: number) => number | null {
  let after = 0;
  return (step) => {
    while (after < steps.length && steps[after]! < step) after++;
    if (after === steps.length) return null;
    if (steps[after] === step) return values[after]!;
    if (after === 0) return null;
    const [low, high] = [values[after - 1]!, values[after]!];
    if (low === null || high === null) return null;
    return low + ((high - low) * (step - steps[after - 1]!)) / (steps[after]! - steps[after - 1]!);
  };
}

function thinned(line: ExperimentLine, limit: number): ExperimentLine {
  const kept = selectExtremes(
    line.values.map((value) => value ?? Number.NaN),
    limit,
  );
  return {
    ...line,
    steps: kept.map((index) => line.steps[index]!),
    values: kept.map((index) => {
      const value = line.values[index]!;
      return value === null ? null : Number(value.toPrecision(5));
    }),
  };
}

/** Places for the charts, and what is to be chosen for them. */
export function curvePanels(data: ExperimentPageData, names: readonly string[]): string[] {
  if (data.charts.length === 0) return [];
  const boxes = data.rows.map(({ label }, row) => {
    const checked = data.shown.includes(row) ? ' checked' : '';
    const title = ` title="${escapeHtml(names[row]!)}"`;
    return `<label${title}><input type="checkbox" data-row="${row}"${checked}>${rowSample(row)}${escapeHtml(label)}</label>`;
  });
  const rest = data.rows.length - data.shown.length;
  const hint =
    rest > 0
      ? `<span class="unit">At first ${data.shown.length} of ${data.rows.length} rows are shown.</span>`
      : '';
  const chooser = `<div class="chooser">
<div class="chooser-rows">${boxes.join('')}</div>
<div class="chooser-looks"><button type="button" data-rows="all">All rows</button><button type="button" data-rows="none">None</button>
<label><input type="checkbox" data-look="seeds" checked>each seed</label><label><input type="checkbox" data-look="steps">logarithmic steps</label><label><input type="checkbox" data-look="values">logarithmic losses</label>${hint}</div></div>`;
  const explained =
    '<p class="hint">Bold: mean of the seeds that finished; thin: each seed; a cross: where a run broke off. Drag to zoom; double-click to see all.</p>';
  const charts = data.charts.map(({ id, wide = false }) => {
    const { title, unit } = KINDS.find((kind) => kind.id === id)!;
    const content = `<div class="plot" data-chart="${id}" role="group" aria-label="${escapeHtml(title)}"></div><p class="readout" data-readout="${id}"></p>`;
    return panel(
      title,
      unit,
      wide ? `${chooser}${content}${explained}` : content,
      wide ? 'panel wide' : 'panel',
    );
  });
  // With the loss gone, the choice would be too.
  return data.charts.some(({ wide }) => wide)
    ? charts
    : [panel('Curves', '', `${chooser}${explained}`, 'panel wide'), ...charts];
}
