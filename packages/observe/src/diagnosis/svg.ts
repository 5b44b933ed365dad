/** Plots as SVG, drawn where the page is made: they need no script, and print. Colours come from the page's classes. */

import { formatShort } from '../report/diagnostics.ts';
import { escapeHtml } from '../report/elements.ts';

export interface PlotLine {
  readonly label: string;
  /** Number of the class `series-…` that colours it. */
  readonly color: number;
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

const WIDTH = 560;
const HEIGHT = 250;
const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 38;

interface Scale {
  readonly ticks: readonly number[];
  /** Vertical place in pixels. */
  readonly place: (value: number) => number;
}

/** Lines over whole numbers from 0. Each point tells its value when it is pointed at. */
export function linePlot({ lines, axis, logarithmic = false }: LinePlot): string {
  const usable = (value: number) => Number.isFinite(value) && (!logarithmic || value > 0);
  const values = lines.flatMap((line) => line.values.filter(usable));
  if (values.length === 0) return '<p class="hint">Nothing to show.</p>';
  const count = Math.max(...lines.map((line) => line.values.length));
  const scale = logarithmic ? powersScale(values) : linearScale(values);
  const x = (index: number) => LEFT + (count === 1 ? 0.5 : index / (count - 1)) * (WIDTH - LEFT - RIGHT);
  const grid = scale.ticks.map((tick) => {
    const y = round(scale.place(tick));
    return `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/><text x="${LEFT - 8}" y="${y + 4}" text-anchor="end">${formatTick(tick)}</text>`;
  });
  const every = Math.ceil(count / 14);
  const labels = Array.from({ length: count }, (_, i) => i)
    .filter((i) => i % every === 0)
    .map((i) => `<text x="${round(x(i))}" y="${HEIGHT - 20}" text-anchor="middle">${i}</text>`);
  const drawn = lines.map((line) => {
    const points = line.values.flatMap((value, i) =>
      usable(value) ? [{ x: round(x(i)), y: round(scale.place(value)), i, value }] : [],
    );
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

/** Shares of scores in bins over [0, 1] as bars. */
export function histogramPlot(shares: readonly number[], color: number): string {
  const height = 150;
  const highest = Math.max(...shares.filter(Number.isFinite), Number.MIN_VALUE);
  const width = (WIDTH - LEFT - RIGHT) / shares.length;
  const room = height - TOP - 22;
  const bars = shares.map((share, bin) => {
    const tall = round((share / highest) * room);
    const range = `${(bin / shares.length).toFixed(2)} to ${((bin + 1) / shares.length).toFixed(2)}`;
    return `<rect x="${round(LEFT + bin * width)}" y="${round(TOP + room - tall)}" width="${round(width - 1)}" height="${tall}"><title>${range}: ${percent(share)}</title></rect>`;
  });
  return svg(
    height,
    `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${TOP}" y2="${TOP}"/><text x="${LEFT - 8}" y="${TOP + 8}" text-anchor="end">${percent(highest)}</text>
<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${TOP + room}" y2="${TOP + room}"/>${scoreLabels(height - 4)}<g class="series-${color}">${bars.join('')}</g>`,
  );
}

/** The same for each of several rows, as shades. @param rows shares, row by row from the top */
export function shadedHistograms(rows: readonly (readonly number[])[], color: number, label: string): string {
  const rowHeight = Math.max(5, Math.min(16, 220 / rows.length));
  const height = rows.length * rowHeight + 26;
  const every = Math.ceil(12 / rowHeight);
  const drawn = rows.map((shares, row) => {
    const y = row * rowHeight;
    const highest = Math.max(...shares.filter(Number.isFinite), Number.MIN_VALUE);
    const width = (WIDTH - LEFT - RIGHT) / shares.length;
    const cells = shares.map(
      (share, bin) =>
        `<rect x="${round(LEFT + bin * width)}" y="${round(y)}" width="${round(width + 0.3)}" height="${round(rowHeight - 1)}" fill-opacity="${round(Math.sqrt(share / highest) || 0)}"><title>${label} ${row}, ${(bin / shares.length).toFixed(2)}: ${percent(share)}</title></rect>`,
    );
    const text = `<text x="${LEFT - 8}" y="${round(y + rowHeight / 2 + 4)}" text-anchor="end">${label} ${row}</text>`;
    return `${row % every === 0 ? text : ''}${cells.join('')}`;
  });
  return svg(height, `<g class="series-${color}">${drawn.join('')}</g>${scoreLabels(height - 6)}`);
}

function scoreLabels(y: number): string {
  const place = (score: number) => LEFT + score * (WIDTH - LEFT - RIGHT);
  return [0, 0.1, 0.5, 0.9, 1]
    .map((score) => `<text x="${round(place(score))}" y="${y}" text-anchor="middle">${score}</text>`)
    .join('');
}

function svg(height: number, content: string): string {
  return `<svg class="figure" viewBox="0 0 ${WIDTH} ${height}" role="img">${content}</svg>`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function formatTick(tick: number): string {
  return tick >= 10000 || (tick !== 0 && tick < 0.001) ? tick.toExponential(0) : String(tick);
}

const vertical = (share: number) => HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);

/** From zero to above the largest value, with round ticks. */
function linearScale(values: readonly number[]): Scale {
  const high = Math.max(...values, 0) || 1;
  const rough = high / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough)!;
  const top = Math.ceil(high / step) * step;
  const ticks = Array.from({ length: Math.round(top / step) + 1 }, (_, i) =>
    Number((i * step).toPrecision(6)),
  );
  return { ticks, place: (value) => vertical(Math.max(0, value) / top) };
}

/** Over powers of ten, with 1, 2 and 5 of each where there are few. */
function powersScale(values: readonly number[]): Scale {
  const low = Math.log10(Math.min(...values)) - 0.05;
  const high = Math.log10(Math.max(...values)) + 0.05;
  const leading = high - low > 2 ? [1] : [1, 2, 5];
  const ticks = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, i) => Math.floor(low) + i)
    .flatMap((power) => leading.map((digit) => Number((digit * 10 ** power).toPrecision(3))))
    .filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high);
  return { ticks, place: (value) => vertical((Math.log10(value) - low) / (high - low)) };
}
