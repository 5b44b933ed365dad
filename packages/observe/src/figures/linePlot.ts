/** Lines over whole numbers, such as a model's layers. */

import { formatShort } from '../report/diagnostics.ts';
import { escapeHtml } from '../report/elements.ts';
import {
  BOTTOM,
  formatTick,
  isDrawable,
  LEFT,
  RIGHT,
  round,
  type SeriesColor,
  scaleOf,
  svg,
  TOP,
  WIDTH,
} from './svg.ts';

export interface PlotLine {
  readonly label: string;
  readonly color: SeriesColor;
  readonly dashed?: boolean;
  /** One value for each place on the horizontal axis; what is not finite is left out. */
  readonly values: readonly number[];
}

export interface LinePlot {
  readonly lines: readonly PlotLine[];
  /** What the horizontal axis counts, from 0. */
  readonly axis: string;
  readonly logarithmic?: boolean;
}

const HEIGHT = 250;

/** Lines over whole numbers from 0, the later ones above; at least one value must be drawable. Each point tells its value. */
export function linePlot({ lines, axis, logarithmic = false }: LinePlot): string {
  const usable = (value: number) => isDrawable(value, logarithmic);
  const values = lines.flatMap((line) => line.values.filter(usable));
  const count = Math.max(...lines.map((line) => line.values.length));
  const scale = scaleOf(values, logarithmic);
  const place = (value: number) => HEIGHT - BOTTOM - scale.share(value) * (HEIGHT - BOTTOM - TOP);
  const x = (index: number) => LEFT + (count === 1 ? 0.5 : index / (count - 1)) * (WIDTH - LEFT - RIGHT);
  const grid = scale.ticks.map((tick) => {
    const y = round(place(tick));
    return `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/><text x="${LEFT - 8}" y="${y + 4}" text-anchor="end">${formatTick(tick)}</text>`;
  });
  const every = Math.ceil(count / 14);
  const labels = Array.from({ length: count }, (_, i) => i)
    .filter((i) => i % every === 0)
    .map((i) => `<text x="${round(x(i))}" y="${HEIGHT - 20}" text-anchor="middle">${i}</text>`);
  const drawn = lines.map((line) => {
    const points = line.values.flatMap((value, i) =>
      usable(value) ? [{ x: round(x(i)), y: round(place(value)), i, value }] : [],
    );
    if (points.length === 0) return '';
    const path = points.map(({ x, y }) => `${x},${y}`).join(' ');
    const dots = points.map(
      ({ x, y, i, value }) =>
        `<circle cx="${x}" cy="${y}" r="3"><title>${escapeHtml(`${line.label}, ${axis} ${i}: ${formatShort(value)}`)}</title></circle>`,
    );
    return `<g class="series-${line.color}${line.dashed ? ' dashed' : ''}"><polyline points="${path}"/>${dots.join('')}</g>`;
  });
  return svg(
    HEIGHT,
    `${grid.join('')}${labels.join('')}<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 4}" text-anchor="middle">${escapeHtml(axis)}</text>${drawn.join('')}`,
  );
}
