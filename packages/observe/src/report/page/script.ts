/// <reference lib="dom" />
/**
 * Runs in the report's page. Draws the plots that the page has places for. The scripts of a page are put into it one after
 * another (`../assets.ts`), so that names of different files must differ.
 */

import type UPlot from 'uplot';
import type { ChartData, ReportData, SeriesRole } from '../data.ts';
import { chartOptions } from './charts.ts';
import { drawLoad, listenToLoad } from './heatMaps.ts';
import { marks } from './marks.ts';
import { color, keepDrawn, pageData } from './theme.ts';

declare const uPlot: typeof UPlot;

const data = pageData<ReportData>('report-data');

const ROLE_STYLES: Record<SeriesRole, () => Partial<UPlot.Series>> = {
  raw: () => ({ stroke: color('raw'), width: 1 }),
  smoothed: () => ({ stroke: color('main'), width: 2 }),
  validation: () => ({
    stroke: color('second'),
    width: 2,
    points: { show: true, size: 5, fill: color('second') },
  }),
  reference: () => ({ stroke: color('reference'), width: 1.5, dash: [6, 5] }),
  first: () => ({ stroke: color('main'), width: 1.75 }),
  second: () => ({ stroke: color('second'), width: 1.75 }),
  third: () => ({ stroke: color('third'), width: 1.75 }),
  fourth: () => ({ stroke: color('fourth'), width: 1.75 }),
  fifth: () => ({ stroke: color('fifth'), width: 1.75 }),
  sixth: () => ({ stroke: color('sixth'), width: 1.75 }),
  seventh: () => ({ stroke: color('seventh'), width: 1.75 }),
  eighth: () => ({ stroke: color('eighth'), width: 1.75 }),
  // Several stretches may be one series.
  givenUp: () => ({ stroke: color('given-up'), width: 1.25, spanGaps: false }),
};

let charts: UPlot[] = [];

function drawCharts(): void {
  for (const chart of charts) chart.destroy();
  charts = [];
  for (const chart of data.charts) {
    const place = document.querySelector<HTMLElement>(`[data-chart="${chart.id}"]`);
    if (place === null) continue;
    const columns = [
      chart.steps,
      ...chart.series.map(({ values }) => values),
    ] as unknown as UPlot.AlignedData;
    charts.push(new uPlot(optionsOf(chart, place.clientWidth), columns, place));
  }
}

function optionsOf(chart: ChartData, width: number): UPlot.Options {
  const series = chart.series.map(
    ({ label, role }): UPlot.Series => ({
      label,
      // A single step has no line.
      points: { show: chart.steps.length === 1 },
      ...ROLE_STYLES[role](),
    }),
  );
  return chartOptions({ ...chart, series, plugins: chart.marked ? [marks(data)] : [] }, width);
}

if (data.load) listenToLoad(data.load);
keepDrawn(() => {
  drawCharts();
  if (data.load) drawLoad(data.load);
});
