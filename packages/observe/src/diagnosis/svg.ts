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

/** Fewest ticks that tell a scale. */
const FEWEST_TICKS = 3;

/** Room above rows for what they are. */
const ROWS_TOP = 18;

interface Scale {
  readonly ticks: readonly number[];
  /** Vertical place in pixels. */
  readonly place: (value: number) => number;
}

/** Whether a value has a place on the axis. */
export function isDrawable(value: number, logarithmic: boolean): boolean {
  return Number.isFinite(value) && (!logarithmic || value > 0);
}

/** Lines over whole numbers from 0, the later ones above; at least one value must be drawable. Each point tells its value. */
export function linePlot({ lines, axis, logarithmic = false }: LinePlot): string {
  const usable = (value: number) => isDrawable(value, logarithmic);
  const values = lines.flatMap((line) => line.values.filter(usable));
  const count = Math.max(...lines.map((line) => line.values.length));
  const powers = logarithmic ? powersScale(values) : undefined;
  // Values so near each other have too few powers between them to read any from.
  const scale = powers && powers.ticks.length >= FEWEST_TICKS ? powers : linearScale(values);
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

/** Shares of scores in bins over [0, 1] as bars. */
export function histogramPlot(shares: readonly number[], color: number): string {
  const height = 150;
  const highest = Math.max(...shares.filter(Number.isFinite), Number.MIN_VALUE);
  const width = (WIDTH - LEFT - RIGHT) / shares.length;
  const room = height - TOP - 22;
  const bars = shares.map((share, bin) => {
    const tall = round((share / highest) * room);
    return `<rect x="${round(LEFT + bin * width)}" y="${round(TOP + room - tall)}" width="${round(width - 1)}" height="${tall}"><title>${binText(bin, shares.length)}: ${percent(share)}</title></rect>`;
  });
  return svg(
    height,
    `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${TOP}" y2="${TOP}"/><text x="${LEFT - 8}" y="${TOP + 8}" text-anchor="end">${percent(highest)}</text>
<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${TOP + room}" y2="${TOP + room}"/>${scoreLabels(height - 4)}<g class="series-${color}">${bars.join('')}</g>`,
  );
}

/** The scores of a bin; the first and the last have what lies outside as well. */
function binText(bin: number, bins: number): string {
  const [from, to] = [(bin / bins).toFixed(2), ((bin + 1) / bins).toFixed(2)];
  return bin === 0 ? `below ${to}` : bin === bins - 1 ? `from ${from}` : `${from} to ${to}`;
}

/**
 * The same for each of several rows, as shades of each row's largest.
 * @param rows shares, row by row from the top
 * @param label of the rows, which are numbered from 0
 */
export function shadedHistograms(rows: readonly (readonly number[])[], color: number, label: string): string {
  const rowHeight = Math.max(5, Math.min(16, 220 / rows.length));
  const height = ROWS_TOP + rows.length * rowHeight + 26;
  const every = Math.ceil(12 / rowHeight);
  const drawn = rows.map((shares, row) => {
    const y = ROWS_TOP + row * rowHeight;
    const highest = Math.max(...shares.filter(Number.isFinite), Number.MIN_VALUE);
    const width = (WIDTH - LEFT - RIGHT) / shares.length;
    const cells = shares.map(
      (share, bin) =>
        `<rect x="${round(LEFT + bin * width)}" y="${round(y)}" width="${round(width + 0.3)}" height="${round(rowHeight - 1)}" fill-opacity="${round(Math.sqrt(share / highest) || 0)}"><title>${label} ${row}, ${binText(bin, shares.length)}: ${percent(share)}</title></rect>`,
    );
    const text = `<text x="${LEFT - 8}" y="${round(y + rowHeight / 2 + 4)}" text-anchor="end">${row}</text>`;
    return `${row % every === 0 ? text : ''}${cells.join('')}`;
  });
  const above = `<text x="${LEFT - 8}" y="${ROWS_TOP - 5}" text-anchor="end">${label}</text>`;
  return svg(height, `${above}<g class="series-${color}">${drawn.join('')}</g>${scoreLabels(height - 6)}`);
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
  const magnitude = Math.abs(tick);
  return magnitude >= 10000 || (magnitude > 0 && magnitude < 0.001) ? tick.toExponential() : String(tick);
}

const vertical = (share: number) => HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);

/** From zero, or below the least value, to above the largest, with round ticks. */
function linearScale(values: readonly number[]): Scale {
  const [low, high] = [Math.min(...values, 0), Math.max(...values, 0)];
  const rough = (high - low || 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough)!;
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step));
  const ticks = Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(6)),
  );
  return { ticks, place: (value) => vertical((value / step - first) / (last - first)) };
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
