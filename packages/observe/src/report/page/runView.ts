/// <reference lib="dom" />
/** Draws what a run's page has places for: charts, marks, heat maps. In a report once, in a live page whenever it changes. */

import type UPlot from 'uplot';
import type { ChartData, ReportData, SeriesRole, StepRange } from '../data.ts';
import { chartOptions, cutsOutliers, topWithoutOutliers } from './charts.ts';
import { drawLoad } from './expertLoad.ts';
import { drawGateHistograms, drawLayerMap } from './layerMaps.ts';
import { marks } from './marks.ts';
import { color } from './theme.ts';

declare const uPlot: typeof UPlot;

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

/** After that long what was drawn can be seen. */
const FRAME_MS = 17;

interface DrawnChart {
  readonly plot: UPlot;
  readonly place: HTMLElement;
  /** What new data must have in common with it to be put into it. */
  readonly look: string;
}

export interface RunViewOptions {
  /** Asked for finer data of a stretch of steps, or of the whole run; without it charts zoom into what they have. */
  readonly onRange?: (range: StepRange | undefined) => void;
}

export class RunView {
  readonly #drawn = new Map<string, DrawnChart>();
  readonly #onRange: RunViewOptions['onRange'];
  /** What is still to be drawn. */
  #waiting: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #data: ReportData;

  constructor(data: ReportData, { onRange }: RunViewOptions = {}) {
    this.#data = data;
    this.#onRange = onRange;
  }

  /** Draws everything anew: the colours or the width have changed. */
  draw(): void {
    for (const { plot } of this.#drawn.values()) plot.destroy();
    this.#drawn.clear();
    this.update(this.#data);
  }

  /** Draws what has changed: the first chart at once, the others one by one, so that the page shows and answers meanwhile. */
  update(data: ReportData): void {
    this.#data = data;
    const { charts, load, layerMaps = [], gateHistograms } = data;
    const [first, ...others] = [
      ...charts.map((chart) => () => this.#drawChart(chart)),
      ...(load ? [() => drawLoad(load)] : []),
      ...layerMaps.map((map) => () => drawLayerMap(map)),
      ...(gateHistograms ? [() => drawGateHistograms(gateHistograms)] : []),
    ];
    first?.();
    this.#waiting = others;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#drawNext(), FRAME_MS);
  }

  /** Draws what is still to be drawn: paper does not wait. */
  finish(): void {
    for (const draw of this.#waiting.splice(0)) draw();
  }

  #drawNext(): void {
    this.#waiting.shift()?.();
    if (this.#waiting.length > 0) this.#timer = setTimeout(() => this.#drawNext());
  }

  #drawChart(chart: ChartData): void {
    const place = document.querySelector<HTMLElement>(`[data-chart="${chart.id}"]`);
    const before = this.#drawn.get(chart.id);
    if (place === null) return;
    const look = JSON.stringify([
      chart.series.map(({ label, role }) => [label, role]),
      chart.steps.length === 1,
    ]);
    const columns = [
      chart.steps,
      ...chart.series.map(({ values }) => values),
    ] as unknown as UPlot.AlignedData;
    if (before?.look === look && before.place === place) {
      before.plot.setData(columns);
      return;
    }
    before?.plot.destroy();
    const plot = new uPlot(this.#options(chart, place.clientWidth), columns, place);
    this.#drawn.set(chart.id, { plot, place, look });
    if (this.#onRange) plot.over.ondblclick = () => this.#onRange?.(undefined);
  }

  #options(chart: ChartData, width: number): UPlot.Options {
    const series = chart.series.map(
      ({ label, role }): UPlot.Series => ({
        label,
        // A single step has no line.
        points: { show: chart.steps.length === 1 },
        ...ROLE_STYLES[role](),
      }),
    );
    const plugins = chart.marked ? [marks(() => this.#data)] : [];
    const top =
      chart.top ??
      (cutsOutliers() ? topWithoutOutliers(chart.series.map(({ values }) => values)) : undefined);
    const options = chartOptions({ ...chart, top, series, plugins }, width);
    if (!this.#onRange) return options;
    const select = (u: UPlot) => {
      if (u.select.width < 4) return;
      const from = Math.max(1, Math.floor(u.posToVal(u.select.left, 'x')));
      const to = Math.ceil(u.posToVal(u.select.left + u.select.width, 'x'));
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      this.#onRange?.({ from, to });
    };
    return {
      ...options,
      cursor: { ...options.cursor, drag: { x: true, y: false, setScale: false } },
      hooks: { setSelect: [select] },
    };
  }
}
