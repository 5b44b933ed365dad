/// <reference lib="dom" />
/** Heat maps of the experts' loads. */

import type { LoadData } from '../data.ts';
import { color, isDark } from './theme.ts';

/** Blue below the fair share, red above, the panel's colour at it. */
function heatColor(load: number): string {
  const dark = isDark();
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

export function drawLoad(load: LoadData): void {
  const layersCanvas = heatPlace<HTMLCanvasElement>('layers');
  const timeCanvas = heatPlace<HTMLCanvasElement>('time');
  const scale = heatPlace<HTMLCanvasElement>('scale');
  const title = heatPlace('title');
  if (!layersCanvas || !timeCanvas || !scale || !title) return;
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

export function listenToLoad(load: LoadData): void {
  const layersCanvas = heatPlace<HTMLCanvasElement>('layers');
  const timeCanvas = heatPlace<HTMLCanvasElement>('time');
  const readout = heatPlace('readout');
  if (!layersCanvas || !timeCanvas || !readout) return;
  layersCanvas.addEventListener('click', (event) => {
    const row = cellAt(event, heatMaps(load).layers)?.row;
    selectedLayer = row === selectedLayer ? undefined : row;
    drawLoad(load);
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
