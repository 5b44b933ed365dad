/**
 * Plots as SVG, drawn where the page is made: they need no script, and print. Colours come from the page's classes. Here is what the
 * plots share: the frame, numbers, and scales.
 */

/** Of every plot, in units of its own; the page makes it as wide as its place. */
export const WIDTH = 560;
export const LEFT = 52;
export const RIGHT = 12;
export const TOP = 10;
/** Room below for the labels of an axis and what it is. */
export const BOTTOM = 38;

/** Number of the class `series-…` that colours a line, a bar or a point. */
export type SeriesColor = number | 'reference';

/** The pages' colours for what is compared, by their number; further things use them again. */
export const COLOR_NAMES = [
  'main',
  'second',
  'third',
  'fourth',
  'fifth',
  'sixth',
  'seventh',
  'eighth',
] as const;

export const COLORS = COLOR_NAMES.length;

/** Strokes and gaps in pixels. */
const DASHES: readonly (readonly number[])[] = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

/**
 * How the line of what has that number is dashed, beside its colour. Who sees some colours alike tells their lines by the strokes:
 * of the eight colours, those that share strokes are four apart, such as blue and ochre. 32 lines are all different.
 */
export function dashOf(index: number): readonly number[] {
  return DASHES[(index + Math.floor(index / COLORS)) % DASHES.length]!;
}

/** Fewest ticks that tell a scale. */
const FEWEST_TICKS = 3;

export interface Scale {
  readonly ticks: readonly number[];
  /** Where a value stands: 0 at the low end, 1 at the high one. */
  readonly share: (value: number) => number;
}

/** Whether a value has a place on the axis. */
export function isDrawable(value: number, logarithmic: boolean): boolean {
  return Number.isFinite(value) && (!logarithmic || value > 0);
}

/** @param content SVG */
export function svg(height: number, content: string, width = WIDTH): string {
  return `<svg class="figure" viewBox="0 0 ${width} ${height}" role="img">${content}</svg>`;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** To a hundredth of a unit of the plot. */
export function round(value: number): number {
  return Math.round(value * 100) / 100;
}

export function formatTick(tick: number): string {
  const magnitude = Math.abs(tick);
  return magnitude >= 10000 || (magnitude > 0 && magnitude < 0.001) ? tick.toExponential() : String(tick);
}

/** Powers of ten and parts of them, or round numbers where the values have too few powers between them to read any from. */
export function scaleOf(values: readonly number[], logarithmic: boolean): Scale {
  const powers = logarithmic ? powersScale(values) : undefined;
  return powers && powers.ticks.length >= FEWEST_TICKS ? powers : linearScale(values);
}

/** From zero, or below the least value, to above the largest, with round ticks. */
function linearScale(values: readonly number[]): Scale {
  return roundScale(Math.min(...values, 0), Math.max(...values, 0));
}

/** With round ticks, the first and the last at or outside of both ends. */
export function roundScale(low: number, high: number): Scale {
  const span = high - low > 1e-300 ? Math.min(high - low, 1e308) : 1;
  const rough = span / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= rough)!;
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step));
  const ticks = Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(6)),
  );
  return { ticks, share: (value) => (value / step - first) / (last - first) };
}

/** Over powers of ten, with 1, 2 and 5 of each where there are few. */
export function powersScale(values: readonly number[]): Scale {
  const low = Math.log10(Math.min(...values)) - 0.05;
  const high = Math.log10(Math.max(...values)) + 0.05;
  const leading = high - low > 2 ? [1] : [1, 2, 5];
  const ticks = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, i) => Math.floor(low) + i)
    .flatMap((power) => leading.map((digit) => Number((digit * 10 ** power).toPrecision(3))))
    .filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high);
  return { ticks, share: (value) => (Math.log10(value) - low) / (high - low) };
}

/** A scale whose ticks are the values themselves, where they are few enough to be told. */
export function scaleAt(values: readonly number[], scale: Scale): Scale {
  const each = [...new Set(values)].sort((a, b) => a - b);
  return each.length <= MOST_TICKS ? { ...scale, ticks: each } : scale;
}

const MOST_TICKS = 8;
