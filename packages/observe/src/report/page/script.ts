/// <reference lib="dom" />
/**
 * Runs in the report's page, inlined as a module, so it may import nothing but types. Draws the plots that the page
 * has places for.
 */

import type UPlot from 'uplot';
import type { ChartData, LoadData, ReportData, SeriesRole } from '../data.ts';

declare const uPlot: typeof UPlot;

const SYNC_KEY = 'sluice';

const data = JSON.parse(document.getElementById('report-data')?.textContent ?? '') as ReportData;

/** The value of a colour for the present scheme, dark or light. */
function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Numbers of the axes

function shortNumber(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function withUnit(value: number, base: number, units: readonly string[]): string {
  let scaled = value;
  let unit = 0;
  while (Math.abs(scaled) >= base && unit < units.length - 1) {
    scaled /= base;
    unit++;
  }
  return `${Number(scaled.toPrecision(3))} ${units[unit]}`.trim();
}

const NUMBER_FORMATS: Record<ChartData['numbers'], (value: number) => string> = {
  plain: shortNumber,
  exponential: (value) => (value === 0 ? '0' : value.toExponential(2).replace(/\.?0+e/, 'e')),
  count: (value) => withUnit(value, 1000, ['', 'k', 'M', 'B']),
  bytes: (value) => withUnit(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']),
};

// Charts

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

/** Draws spikes and steps that were given up as bands, behind the curves, and skipped updates as thin lines. */
function marks(): UPlot.Plugin {
  const draw = (u: UPlot) => {
    const { ctx, bbox } = u;
    const x = (step: number) => u.valToPos(step, 'x', true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const { from, to } of data.rollbacks) {
      const left = x(to + 0.5);
      ctx.fillStyle = color('quarantine-fill');
      ctx.fillRect(left, bbox.top, Math.max(devicePixelRatio, x(from + 0.5) - left), bbox.height);
    }
    for (const { start, end, isGivenUp } of data.spikes) {
      const left = x(start - 0.5);
      const width = Math.max(2 * devicePixelRatio, x(end + 0.5) - left);
      ctx.fillStyle = color('spike-fill');
      if (!isGivenUp) ctx.fillRect(left, bbox.top, width, bbox.height);
      // A short spike of a long run is a hair wide: a tick at the top makes it findable.
      ctx.fillStyle = color('spike');
      ctx.fillRect(left, bbox.top, width, 4 * devicePixelRatio);
    }
    ctx.fillStyle = color('skipped');
    for (const step of data.skipped) ctx.fillRect(x(step), bbox.top, devicePixelRatio, bbox.height);
    data.rollbacks.forEach(({ from, to }, index) => {
      drawWayBack(ctx, x(from), x(to), bbox.top + (12 + 9 * (index % 4)) * devicePixelRatio);
    });
    ctx.restore();
  };
  return { hooks: { drawAxes: draw } };
}

/** An arrow to the left, with a post where it begins. */
function drawWayBack(ctx: CanvasRenderingContext2D, from: number, to: number, y: number): void {
  const size = 4 * devicePixelRatio;
  ctx.strokeStyle = color('way-back');
  ctx.fillStyle = color('way-back');
  ctx.lineWidth = 1.25 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(from, y - size);
  ctx.lineTo(from, y + size);
  ctx.moveTo(from, y);
  ctx.lineTo(to, y);
  ctx.stroke();
  ctx.beginPath();
  ctx.moveTo(to, y);
  ctx.lineTo(to + 1.6 * size, y - size);
  ctx.lineTo(to + 1.6 * size, y + size);
  ctx.fill();
}

function axis(format?: (value: number) => string): UPlot.Axis {
  const line = { stroke: color('grid'), width: 1 };
  return {
    stroke: color('quiet'),
    font: '12px system-ui, sans-serif',
    grid: line,
    ticks: { ...line, size: 5 },
    ...(format
      ? { values: (_u, splits) => splits.map((value) => (value === null ? '' : format(value))) }
      : {}),
  };
}

function chartOptions(chart: ChartData, width: number): UPlot.Options {
  const format = NUMBER_FORMATS[chart.numbers];
  return {
    width,
    height: chart.wide ? (width < 600 ? 260 : 340) : 240,
    scales: {
      x: { time: false },
      y: chart.logarithmic ? { distr: 3 } : { range: (_u, low, high) => verticalRange(low, high, chart) },
    },
    axes: [
      { ...axis((step) => step.toLocaleString('en-US')), incrs: STEP_INCREMENTS, size: 34 },
      {
        ...axis(format),
        size: 64,
        ...(chart.numbers === 'bytes' ? { incrs: BYTE_INCREMENTS } : {}),
        ...(chart.logarithmic ? { filter: logarithmicTicks } : {}),
      },
    ],
    series: [
      { label: 'step', value: (_u, step) => (step === null ? '–' : step.toLocaleString('en-US')) },
      ...chart.series.map(
        ({ label, role }): UPlot.Series => ({
          label,
          spanGaps: true,
          // A single step has no line.
          points: { show: chart.steps.length === 1 },
          value: (_u, value) => (value === null ? '–' : format(value)),
          ...ROLE_STYLES[role](),
        }),
      ),
    ],
    cursor: { sync: { key: SYNC_KEY, setSeries: false }, drag: { x: true, y: false }, points: { size: 7 } },
    plugins: chart.marked ? [marks()] : [],
  };
}

/** Powers of two, so that the labels are round numbers of KiB, MiB and GiB. */
const BYTE_INCREMENTS = Array.from({ length: 45 }, (_, power) => 2 ** power);

/** Whole steps only. */
const STEP_INCREMENTS = [1, 2, 5]
  .flatMap((first) => Array.from({ length: 10 }, (_, power) => first * 10 ** power))
  .sort((a, b) => a - b);

function verticalRange(low: number | null, high: number | null, chart: ChartData): [number, number] {
  if (low === null || high === null) return [0, 1];
  const bottom = chart.fromZero ? Math.min(0, low) : low;
  const room = (high - bottom || Math.abs(high) || 1) * 0.06;
  const top = Math.min(high + room, chart.top ?? Number.POSITIVE_INFINITY);
  return [chart.fromZero && bottom === 0 ? 0 : bottom - room, top];
}

/** Labels powers of ten, and their halves where there are few. */
function logarithmicTicks(_u: UPlot, splits: number[]): (number | null)[] {
  const leading = (value: number) => Number(value.toExponential(0)[0]);
  const powers = splits.filter((value) => leading(value) === 1).length;
  const shown = powers > 2 ? [1] : powers > 1 ? [1, 3] : [1, 2, 5];
  return splits.map((value) => (shown.includes(leading(value)) ? value : null));
}

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
    charts.push(new uPlot(chartOptions(chart, place.clientWidth), columns, place));
  }
}

// Heat maps of the experts' loads

/** Blue below the fair share, red above, the panel's colour at it. */
function heatColor(load: number): string {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  // Small departures are the usual ones: they get more of the range.
  const amount = Math.min(1, Math.abs(load - 1)) ** 0.7;
  const middle = dark ? 0.26 : 0.96;
  const end = dark ? 0.68 : 0.48;
  const lightness = middle + (end - middle) * amount;
  return `oklch(${lightness} ${0.01 + 0.17 * amount} ${load < 1 ? 255 : 30})`;
}

interface HeatMap {
  /** Pixels, without the labels below. */
  readonly height: number;
  readonly rows: number;
  readonly columns: number;
  readonly load: (row: number, column: number) => number;
  readonly rowLabel: (row: number) => string;
  /** Labels below the left and the right end. */
  readonly ends: readonly [string, string];
  readonly selectedRow?: number | undefined;
}

const HEAT_LEFT = 72;
const HEAT_BOTTOM = 22;

function heatPlace<T extends HTMLElement>(name: string): T | null {
  return document.querySelector<T>(`[data-heat="${name}"]`);
}

function drawHeatMap(canvas: HTMLCanvasElement, map: HeatMap): void {
  const width = canvas.parentElement?.clientWidth ?? 400;
  const height = map.height + HEAT_BOTTOM;
  canvas.style.height = `${height}px`;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext('2d');
  if (context === null) return;
  context.scale(devicePixelRatio, devicePixelRatio);
  const cellWidth = (width - HEAT_LEFT) / map.columns;
  const cellHeight = (height - HEAT_BOTTOM) / map.rows;
  // Edges on whole pixels: neighbours neither overlap nor leave a gap. Large cells get one on purpose.
  const gapX = cellWidth >= 10 ? 1 : 0;
  const gapY = cellHeight >= 8 ? 1 : 0;
  for (let row = 0; row < map.rows; row++) {
    const top = Math.round(row * cellHeight);
    const bottom = Math.round((row + 1) * cellHeight);
    for (let column = 0; column < map.columns; column++) {
      const left = Math.round(HEAT_LEFT + column * cellWidth);
      const right = Math.round(HEAT_LEFT + (column + 1) * cellWidth);
      context.fillStyle = heatColor(map.load(row, column));
      context.fillRect(left, top, right - left - gapX, bottom - top - gapY);
    }
    if (row === map.selectedRow) {
      context.strokeStyle = color('text');
      context.lineWidth = 2;
      context.strokeRect(HEAT_LEFT - 1, top + 1, width - HEAT_LEFT, bottom - top - 2);
    }
  }
  labelHeatMap(context, map, width, height, cellHeight);
}

function labelHeatMap(
  context: CanvasRenderingContext2D,
  map: HeatMap,
  width: number,
  height: number,
  cellHeight: number,
): void {
  context.fillStyle = color('quiet');
  context.font = '12px system-ui, sans-serif';
  context.textBaseline = 'middle';
  context.textAlign = 'right';
  const every = Math.max(1, Math.ceil(14 / cellHeight));
  for (let row = 0; row < map.rows; row += every) {
    context.fillText(map.rowLabel(row), HEAT_LEFT - 8, (row + 0.5) * cellHeight);
  }
  context.textAlign = 'left';
  context.fillText(map.ends[0], HEAT_LEFT, height - HEAT_BOTTOM / 2 + 2);
  context.textAlign = 'right';
  context.fillText(map.ends[1], width, height - HEAT_BOTTOM / 2 + 2);
}

let selectedLayer: number | undefined;

/** The two maps: layers × experts at the end, and experts over the steps for one layer or the mean of all. */
function heatMaps(load: LoadData): { layers: HeatMap; time: HeatMap } {
  const { layers, experts, steps, values } = load;
  const at = (snapshot: number, layer: number, expert: number) =>
    values[snapshot]?.[layer * experts + expert] ?? 0;
  const last = steps.length - 1;
  const height = Math.min(420, Math.max(96, Math.max(layers, experts) * 18));
  // A single step is noisy: the end is the mean of the last tenth.
  const tail = Math.max(0, last - Math.floor(steps.length / 10) + 1);
  const mean = (count: number, value: (index: number) => number) =>
    Array.from({ length: count }, (_, index) => value(index)).reduce((a, b) => a + b, 0) / count;
  return {
    layers: {
      height,
      rows: layers,
      columns: experts,
      load: (layer, expert) =>
        mean(Math.max(1, last - tail + 1), (index) => at(Math.min(last, tail + index), layer, expert)),
      rowLabel: (layer) => `layer ${layer}`,
      ends: ['expert 0', `expert ${experts - 1}`],
      selectedRow: selectedLayer,
    },
    time: {
      height,
      rows: experts,
      columns: steps.length,
      load: (expert, snapshot) =>
        selectedLayer === undefined
          ? mean(layers, (layer) => at(snapshot, layer, expert))
          : at(snapshot, selectedLayer, expert),
      rowLabel: (expert) => `expert ${expert}`,
      ends: [
        `step ${(steps[0] ?? 0).toLocaleString('en-US')}`,
        `step ${(steps[last] ?? 0).toLocaleString('en-US')}`,
      ],
    },
  };
}

function drawLoad(): void {
  const { load } = data;
  const layersCanvas = heatPlace<HTMLCanvasElement>('layers');
  const timeCanvas = heatPlace<HTMLCanvasElement>('time');
  const scale = heatPlace<HTMLCanvasElement>('scale');
  const title = heatPlace('title');
  if (!load || !layersCanvas || !timeCanvas || !scale || !title) return;
  const maps = heatMaps(load);
  title.textContent = selectedLayer === undefined ? 'All layers' : `Layer ${selectedLayer}`;
  drawHeatMap(layersCanvas, maps.layers);
  drawHeatMap(timeCanvas, maps.time);
  drawScale(scale);
}

function drawScale(canvas: HTMLCanvasElement): void {
  canvas.width = 160;
  canvas.height = 1;
  const context = canvas.getContext('2d');
  for (let x = 0; context !== null && x < canvas.width; x++) {
    context.fillStyle = heatColor((2 * x) / (canvas.width - 1));
    context.fillRect(x, 0, 1, 1);
  }
}

/** The cell of a map under the pointer. */
function cellAt(event: MouseEvent, map: HeatMap): { row: number; column: number } | undefined {
  const canvas = event.currentTarget as HTMLCanvasElement;
  const width = (canvas.clientWidth - HEAT_LEFT) / map.columns;
  const height = (canvas.clientHeight - HEAT_BOTTOM) / map.rows;
  const column = Math.floor((event.offsetX - HEAT_LEFT) / width);
  const row = Math.floor(event.offsetY / height);
  return column >= 0 && column < map.columns && row >= 0 && row < map.rows ? { row, column } : undefined;
}

function listenToLoad(load: LoadData): void {
  const layersCanvas = heatPlace<HTMLCanvasElement>('layers');
  const timeCanvas = heatPlace<HTMLCanvasElement>('time');
  const readout = heatPlace('readout');
  if (!layersCanvas || !timeCanvas || !readout) return;
  layersCanvas.addEventListener('click', (event) => {
    const row = cellAt(event, heatMaps(load).layers)?.row;
    selectedLayer = row === selectedLayer ? undefined : row;
    drawLoad();
  });
  layersCanvas.addEventListener('mousemove', (event) => {
    const map = heatMaps(load).layers;
    const cell = cellAt(event, map);
    readout.textContent = cell
      ? `layer ${cell.row}, expert ${cell.column}: ${map.load(cell.row, cell.column).toFixed(2)}`
      : '';
  });
  timeCanvas.addEventListener('mousemove', (event) => {
    const map = heatMaps(load).time;
    const cell = cellAt(event, map);
    readout.textContent = cell
      ? `step ${load.steps[cell.column]}, expert ${cell.row}: ${map.load(cell.row, cell.column).toFixed(2)}`
      : '';
  });
  for (const canvas of [layersCanvas, timeCanvas]) {
    canvas.addEventListener('mouseleave', () => {
      readout.textContent = '';
    });
  }
}

function drawAll(): void {
  drawCharts();
  drawLoad();
}

drawAll();
if (data.load) listenToLoad(data.load);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
let lastWidth = document.body.clientWidth;
let resizing: number | undefined;
addEventListener('resize', () => {
  if (document.body.clientWidth === lastWidth) return;
  lastWidth = document.body.clientWidth;
  clearTimeout(resizing);
  resizing = setTimeout(drawAll, 120) as unknown as number;
});
