/// <reference lib="dom" />
/** Runs in the page of an experiment. Draws the curves of the rows that are chosen. */

import type UPlot from 'uplot';
import { chartOptions, NUMBER_FORMATS } from '../../../report/page/charts.ts';
import { color, keepDrawn, pageData } from '../../../report/page/theme.ts';
import type { ExperimentChart, ExperimentLine, ExperimentPageData } from '../data.ts';

declare const uPlot: typeof UPlot;

const experiment = pageData<ExperimentPageData>('report-data');

function inputs(selector: string): HTMLInputElement[] {
  return [...document.querySelectorAll<HTMLInputElement>(selector)];
}

const rowBoxes = inputs('input[data-row]');

function isChosen(look: string): boolean {
  return inputs(`input[data-look="${look}"]`)[0]?.checked ?? false;
}

/** Lines of a chart that draws fast enough to be played with. */
const MOST_LINES = 60;

/**
 * The lines of the rows that are chosen; means come last, so that they lie above. Where they are too many, single seeds are left out,
 * then the last rows.
 */
function chosenLines({ lines }: ExperimentChart): { lines: ExperimentLine[]; leftOut: number } {
  const rows = new Set(rowBoxes.flatMap((box) => (box.checked ? [Number(box.dataset.row)] : [])));
  const chosen = lines.filter(({ row, seed }) => rows.has(row) && (seed === null || isChosen('seeds')));
  const means = chosen.filter(({ seed }) => seed === null);
  const drawn =
    chosen.length > MOST_LINES
      ? means.slice(0, MOST_LINES)
      : [...chosen.filter(({ seed }) => seed !== null), ...means];
  return { lines: drawn, leftOut: chosen.length - drawn.length };
}

/** Steps that have a place on the axis. */
function drawable({ steps, values }: ExperimentLine): UPlot.AlignedData {
  const first = isChosen('steps') ? steps.findIndex((step) => step > 0) : 0;
  return [steps.slice(first), values.slice(first)] as unknown as UPlot.AlignedData;
}

function seriesOf({ row, seed, values }: ExperimentLine): UPlot.Series {
  const { label, dash } = experiment.rows[row]!;
  const known = values.filter((value) => value !== null).length;
  return {
    label: seed === null ? label : `${label}, seed ${seed}`,
    stroke: color(experiment.rows[row]!.color),
    ...(seed === null ? { width: 2.5 } : { width: 1, alpha: 0.55 }),
    dash: [...dash],
    // What has no value breaks the line; what is missing because other lines have a point there does not.
    spanGaps: false,
    points: { show: known === 1, size: 6 },
  };
}

/** A cross where a run broke off. */
function crosses(lines: readonly ExperimentLine[]): UPlot.Plugin {
  const draw = (u: UPlot) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const { row, isBroken, steps, values } of lines) {
      const last = values.findLastIndex((value) => value !== null);
      if (!isBroken || last < 0) continue;
      const [x, y] = [u.valToPos(steps[last]!, 'x', true), u.valToPos(values[last]!, 'y', true)];
      const size = 5 * devicePixelRatio;
      ctx.strokeStyle = color(experiment.rows[row]!.color);
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.moveTo(x - size, y - size);
      ctx.lineTo(x + size, y + size);
      ctx.moveTo(x - size, y + size);
      ctx.lineTo(x + size, y - size);
      ctx.stroke();
    }
    ctx.restore();
  };
  return { hooks: { draw } };
}

function readoutOf(chart: string): HTMLElement | null {
  return document.querySelector<HTMLElement>(`[data-readout="${chart}"]`);
}

/** Tells the means at the pointer, of as many rows as one can read. */
function readout(chart: ExperimentChart, lines: readonly ExperimentLine[]): UPlot.Plugin {
  const place = readoutOf(chart.id);
  const means = lines.flatMap((line, index) => (line.seed === null ? [{ line, index }] : [])).slice(0, 12);
  const tell = (u: UPlot) => {
    if (place === null) return;
    const { idx } = u.cursor;
    const step = idx == null ? undefined : u.data[0][idx];
    if (step === undefined) {
      place.textContent = '';
      return;
    }
    const texts = means.flatMap(({ line, index }) => {
      const value = nearestValue(line, step);
      if (value === undefined || u.series[index + 1] === undefined) return [];
      return [`${experiment.rows[line.row]!.label} ${NUMBER_FORMATS[chart.numbers](value)}`];
    });
    place.textContent = [`step ${step.toLocaleString('en-US')}`, ...texts].join(' · ');
  };
  return { hooks: { setCursor: tell } };
}

/** At the line's last step up to that one. */
function nearestValue({ steps, values }: ExperimentLine, step: number): number | undefined {
  return values[steps.findLastIndex((other) => other <= step)] ?? undefined;
}

let drawnCharts: UPlot[] = [];

function drawExperiment(): void {
  for (const chart of drawnCharts) chart.destroy();
  const places = experiment.charts.map(({ id }) => {
    const place = document.querySelector<HTMLElement>(`[data-chart="${id}"]`);
    return { place, width: place?.clientWidth ?? 0 };
  });
  drawnCharts = experiment.charts.flatMap((chart, index) => {
    const { place, width } = places[index]!;
    const chosen = chosenLines(chart);
    const lines = chosen.lines.filter((line) => drawable(line)[0].length > 0);
    tellLeftOut(chart, chosen.leftOut);
    if (place === null || lines.length === 0) return [];
    const options = chartOptions(
      {
        ...chart,
        logarithmic: chart.logarithmic || isLogarithmic(lines),
        logarithmicSteps: isChosen('steps'),
        tight: true,
        series: lines.map(seriesOf),
        plugins: [crosses(lines), readout(chart, lines)],
      },
      width,
    );
    // The rows to choose from are the legend.
    return [new uPlot({ ...options, legend: { show: false } }, uPlot.join(lines.map(drawable)), place)];
  });
}

function tellLeftOut({ id }: ExperimentChart, count: number): void {
  const place = readoutOf(id);
  if (place)
    place.textContent = count === 0 ? '' : `${count} lines are left out: choose fewer rows to see each seed.`;
}

/** Whether the axis is to be logarithmic and can be. */
function isLogarithmic(lines: readonly ExperimentLine[]): boolean {
  return (
    isChosen('values') && lines.every(({ values }) => values.every((value) => value === null || value > 0))
  );
}

for (const box of inputs('.chooser input')) box.addEventListener('change', drawExperiment);
for (const button of document.querySelectorAll<HTMLElement>('button[data-rows]')) {
  button.addEventListener('click', () => {
    for (const box of rowBoxes) box.checked = button.dataset.rows === 'all';
    drawExperiment();
  });
}
keepDrawn(drawExperiment);
