/** Points over a logarithmic axis, such as losses over learning rates, with a line through what belongs together. */

import { formatShort } from '../report/diagnostics.ts';
import { escapeHtml } from '../report/elements.ts';
import {
  BOTTOM,
  formatTick,
  LEFT,
  powersScale,
  RIGHT,
  round,
  roundScale,
  type SeriesColor,
  scaleAt,
  svg,
  WIDTH,
} from './svg.ts';

export interface PlotPoint {
  /** Above zero. */
  readonly x: number;
  /** Null for what has no value: it is drawn in a strip above the plot. */
  readonly y: number | null;
  readonly mark: 'dot' | 'ring' | 'cross';
  readonly title: string;
}

export interface PointSeries {
  readonly color: SeriesColor;
  readonly dash: readonly number[];
  readonly points: readonly PlotPoint[];
  /** Corners of the line, in ascending order of x. */
  readonly line: readonly { readonly x: number; readonly y: number }[];
}

export interface PointPlot {
  readonly series: readonly PointSeries[];
  readonly axis: string;
  /** What the strip above the plot holds. */
  readonly strip: string;
}

const HEIGHT = 300;
/** Room for the strip of what has no value. */
const STRIP = 34;

/** Values beyond this many times the distance from the least to the middle one are drawn in the strip: they would flatten the rest. */
const FAR = 8;

/** At least one point must be there. */
export function pointPlot({ series, axis, strip }: PointPlot): string {
  const points = series.flatMap((each) => each.points);
  const values = points.flatMap(({ y }) => (y === null ? [] : [y])).sort((a, b) => a - b);
  const [low, middle] = [values[0] ?? 0, values[Math.floor(values.length / 2)] ?? 1];
  const bound = middle > low ? low + FAR * (middle - low) : Number.POSITIVE_INFINITY;
  const near = values.filter((value) => value <= bound);
  const vertical = roundScale(low, near.at(-1) ?? 1);
  const rates = points.map(({ x }) => x);
  const across = scaleAt(rates, powersScale(rates));
  const x = (value: number) => round(LEFT + across.share(value) * (WIDTH - LEFT - RIGHT));
  const y = (value: number | null) =>
    value === null || value > bound
      ? STRIP / 2
      : round(HEIGHT - BOTTOM - vertical.share(value) * (HEIGHT - BOTTOM - STRIP - 6));
  const grid = vertical.ticks.map((tick) => {
    const place = y(tick);
    return `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${place}" y2="${place}"/><text x="${LEFT - 8}" y="${place + 4}" text-anchor="end">${formatTick(tick)}</text>`;
  });
  const ticks = across.ticks.map(
    (tick) =>
      `<line class="grid" x1="${x(tick)}" x2="${x(tick)}" y1="0" y2="${HEIGHT - BOTTOM}"/><text x="${x(tick)}" y="${HEIGHT - 20}" text-anchor="middle">${formatTick(tick)}</text>`,
  );
  const hasStrip = values.length < points.length || near.length < values.length;
  const above = hasStrip
    ? `<line class="reference" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${STRIP}" y2="${STRIP}"/><text x="${LEFT - 8}" y="${STRIP / 2 + 4}" text-anchor="end">${escapeHtml(strip)}</text>`
    : '';
  const drawn = series.map(({ color, dash, points, line }) => {
    const corners = line.filter((corner) => corner.y <= bound);
    const path =
      corners.length < 2
        ? ''
        : `<polyline points="${corners.map((corner) => `${x(corner.x)},${y(corner.y)}`).join(' ')}"${dash.length === 0 ? '' : ` stroke-dasharray="${dash.join(' ')}"`}/>`;
    return `<g class="series-${color}">${path}${points.map((point) => drawPoint(point, x(point.x), y(point.y))).join('')}</g>`;
  });
  return svg(
    HEIGHT,
    `${grid.join('')}${ticks.join('')}${above}<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 4}" text-anchor="middle">${escapeHtml(axis)}</text>${drawn.join('')}`,
  );
}

function drawPoint({ mark, title, y: value }: PlotPoint, x: number, y: number): string {
  const text = `<title>${escapeHtml(value === null ? title : `${title}: ${formatShort(value)}`)}</title>`;
  if (mark === 'cross') {
    return `<path class="hollow" d="M${round(x - 4)},${round(y - 4)} l8,8 m-8,0 l8,-8">${text}</path>`;
  }
  const attributes = mark === 'dot' ? 'r="4"' : 'class="hollow" r="3"';
  return `<circle cx="${x}" cy="${y}" ${attributes}>${text}</circle>`;
}
