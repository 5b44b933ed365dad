/// <reference lib="dom" />
/** Heat maps on a canvas: rows of cells with their labels, and the cell under the pointer. */

import { color, isDark } from './theme.ts';

export interface HeatMap {
  /** Pixels, without the labels below. */
  readonly height: number;
  readonly rows: number;
  readonly columns: number;
  readonly value: (row: number, column: number) => number | null;
  readonly colorOf: (value: number) => string;
  readonly rowLabel: (row: number) => string;
  /** Labels below the left and the right end. */
  readonly ends: readonly [string, string];
  readonly selectedRow?: number | undefined;
}

const HEAT_LEFT = 72;
const HEAT_BOTTOM = 22;

/** Blue below the fair share, which is 1, orange above, the panel's colour at it. */
export function shareColor(load: number): string {
  const dark = isDark();
  // Small departures are the usual ones: they get more of the range.
  const amount = Math.min(1, Math.abs(load - 1)) ** 0.7;
  const middle = dark ? 0.26 : 0.96;
  const end = dark ? 0.68 : 0.48;
  const lightness = middle + (end - middle) * amount;
  return `oklch(${lightness} ${0.01 + 0.15 * amount} ${load < 1 ? 255 : 45})`;
}

/** From the panel's colour to the strongest; lightness alone tells the order. @param amount from 0 to 1 */
export function amountColor(amount: number): string {
  const within = Math.min(1, Math.max(0, amount));
  const lightness = isDark() ? 0.24 + 0.66 * within : 0.97 - 0.67 * within;
  return `oklch(${lightness} ${0.02 + 0.14 * Math.sin(Math.PI * (0.15 + 0.7 * within))} ${isDark() ? 280 - 190 * within : 100 + 170 * within})`;
}

export function heatPlace<T extends HTMLElement>(name: string, within: ParentNode = document): T | null {
  return within.querySelector<T>(`[data-heat="${name}"]`);
}

export function drawHeatMap(canvas: HTMLCanvasElement, map: HeatMap): void {
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
      const value = map.value(row, column);
      if (value === null) continue;
      const left = Math.round(HEAT_LEFT + column * cellWidth);
      const right = Math.round(HEAT_LEFT + (column + 1) * cellWidth);
      context.fillStyle = map.colorOf(value);
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
  for (let row = Math.floor(every / 2); row < map.rows; row += every) {
    context.fillText(map.rowLabel(row), HEAT_LEFT - 8, (row + 0.5) * cellHeight);
  }
  context.textAlign = 'left';
  context.fillText(map.ends[0], HEAT_LEFT, height - HEAT_BOTTOM / 2 + 2);
  context.textAlign = 'right';
  context.fillText(map.ends[1], width, height - HEAT_BOTTOM / 2 + 2);
}

/** The colours of amounts from 0 to 1. */
export function drawHeatScale(canvas: HTMLCanvasElement, colorAt: (amount: number) => string): void {
  canvas.width = 160;
  canvas.height = 1;
  const context = canvas.getContext('2d');
  for (let x = 0; context !== null && x < canvas.width; x++) {
    context.fillStyle = colorAt(x / (canvas.width - 1));
    context.fillRect(x, 0, 1, 1);
  }
}

/** The cell of a map under the pointer. */
export function cellAt(
  event: MouseEvent,
  map: Pick<HeatMap, 'rows' | 'columns'>,
): { row: number; column: number } | undefined {
  const canvas = event.currentTarget as HTMLCanvasElement;
  const width = (canvas.clientWidth - HEAT_LEFT) / map.columns;
  const height = (canvas.clientHeight - HEAT_BOTTOM) / map.rows;
  const column = Math.floor((event.offsetX - HEAT_LEFT) / width);
  const row = Math.floor(event.offsetY / height);
  return column >= 0 && column < map.columns && row >= 0 && row < map.rows ? { row, column } : undefined;
}

/** `step 1,200`. */
export function stepLabel(step: number | undefined): string {
  return `step ${(step ?? 0).toLocaleString('en-US')}`;
}
