/// <reference lib="dom" />
/** Charts over the steps of training, by uPlot, which the page holds. */

import type UPlot from 'uplot';
import type { ChartData } from '../data.ts';
import { color } from './theme.ts';

const SYNC_KEY = 'sluice';

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

export const NUMBER_FORMATS: Record<ChartData['numbers'], (value: number) => string> = {
  plain: shortNumber,
  exponential: (value) => (value === 0 ? '0' : value.toExponential(2).replace(/\.?0+e/, 'e')),
  count: (value) => withUnit(value, 1000, ['', 'k', 'M', 'B']),
  bytes: (value) => withUnit(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']),
};

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

/** How a chart looks, but for its series. */
export interface ChartLook extends Pick<ChartData, 'numbers' | 'logarithmic' | 'fromZero' | 'top' | 'wide'> {
  /** Whether the steps are on a logarithmic axis; there must be no step 0 then. */
  readonly logarithmicSteps?: boolean;
  /** Whether a logarithmic axis of values ends where they do, not at powers of ten. */
  readonly tight?: boolean;
  readonly series: readonly UPlot.Series[];
  readonly plugins?: UPlot.Plugin[];
}

/** @param width of the place that it is drawn in, in pixels */
export function chartOptions(chart: ChartLook, width: number): UPlot.Options {
  const format = NUMBER_FORMATS[chart.numbers];
  return {
    width,
    height: chart.wide ? (width < 600 ? 260 : 340) : 240,
    scales: {
      x: {
        time: false,
        ...(chart.logarithmicSteps
          ? { distr: 3, range: (_u, low, high) => (low < high ? [low, high] : [low / 2, high * 2]) }
          : {}),
      },
      y: chart.logarithmic
        ? { distr: 3, ...(chart.tight ? { range: (_u, low, high) => [low / 1.02, high * 1.02] } : {}) }
        : { range: (_u, low, high) => verticalRange(low, high, chart) },
    },
    axes: [
      {
        ...axis((step) => step.toLocaleString('en-US')),
        size: 34,
        ...(chart.logarithmicSteps ? { filter: logarithmicTicks } : { incrs: STEP_INCREMENTS }),
      },
      {
        ...axis(format),
        size: 64,
        ...(chart.numbers === 'bytes' ? { incrs: BYTE_INCREMENTS } : {}),
        ...(chart.logarithmic ? { splits: logarithmicSplits, filter: evenOrLogarithmicTicks } : {}),
      },
    ],
    series: [
      { label: 'step', value: (_u, step) => (step === null ? '–' : step.toLocaleString('en-US')) },
      ...chart.series.map(
        (series): UPlot.Series => ({
          spanGaps: true,
          value: (_u, value) => (value === null ? '–' : format(value)),
          ...series,
        }),
      ),
    ],
    cursor: { sync: { key: SYNC_KEY, setSeries: false }, drag: { x: true, y: false }, points: { size: 7 } },
    plugins: chart.plugins ?? [],
  };
}

/** Where an axis may end so that a few outliers do not flatten the rest; undefined where there are none to speak of. */
export function topWithoutOutliers(series: readonly (readonly (number | null)[])[]): number | undefined {
  const values = series.flat().filter((value) => value !== null);
  values.sort((a, b) => a - b);
  const usual = values[Math.floor(0.98 * (values.length - 1))];
  const highest = values.at(-1);
  if (usual === undefined || highest === undefined || usual <= 0 || highest < 1.6 * usual) return undefined;
  return 1.2 * usual;
}

/** Whether axes are to end so. */
export function cutsOutliers(): boolean {
  return document.documentElement.dataset.outliers !== 'shown';
}

/** A box that says whether axes end where the usual values do; key o. @param draw called when it was changed */
export function outlierSwitch(draw: () => void): HTMLElement {
  const label = document.createElement('label');
  label.className = 'outliers';
  const box = document.createElement('input');
  box.type = 'checkbox';
  box.checked = cutsOutliers();
  const change = () => {
    document.documentElement.dataset.outliers = box.checked ? 'cut' : 'shown';
    draw();
  };
  box.addEventListener('change', change);
  addEventListener('keydown', (event) => {
    const { target } = event;
    const isTyping =
      target instanceof HTMLSelectElement ||
      (target instanceof HTMLInputElement && target.type !== 'checkbox');
    if (event.key !== 'o' || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    box.checked = !box.checked;
    change();
  });
  label.append(box, ' outliers cut');
  label.title = 'Axes end where the usual values do (key o)';
  return label;
}

/** Powers of two, so that the labels are round numbers of KiB, MiB and GiB. */
const BYTE_INCREMENTS = Array.from({ length: 45 }, (_, power) => 2 ** power);

/** Whole steps only. */
const STEP_INCREMENTS = [1, 2, 5]
  .flatMap((first) => Array.from({ length: 10 }, (_, power) => first * 10 ** power))
  .sort((a, b) => a - b);

function verticalRange(low: number | null, high: number | null, chart: ChartLook): [number, number] {
  if (low === null || high === null) return [0, 1];
  const bottom = chart.fromZero ? Math.min(0, low) : low;
  const shown = Math.max(bottom, Math.min(high, chart.top ?? high));
  const room = (shown - bottom || Math.abs(shown) || 1) * 0.06;
  const top = Math.min(high + room, chart.top ?? Number.POSITIVE_INFINITY);
  return [chart.fromZero && bottom === 0 ? 0 : bottom - room, Math.max(top, bottom + room)];
}

/** Of a logarithmic axis that spans less than this factor, lines stand at even distances. */
const EVEN_FACTOR = 8;
const EVEN_LINES = 5;

/**
 * Lines of a logarithmic axis: at the multiples of the powers of ten, or at round numbers where those would be few. One that begins at 0,
 * as where there is nothing to draw, has none.
 */
export function logarithmicSplits(_u: UPlot, _axis: number, low: number, high: number): number[] {
  const lines: number[] = [];
  if (!(low > 0)) return lines;
  const add = (line: number) => {
    if (line >= low && line <= high) lines.push(Number(line.toPrecision(12)));
  };
  if (high < EVEN_FACTOR * low) {
    const rough = (high - low) / EVEN_LINES;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((first) => first * unit).find((one) => one >= rough)!;
    for (let i = Math.ceil(low / step); i * step <= high; i++) add(i * step);
  } else {
    for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10)
      for (let first = 1; first < 10; first++) add(first * power);
  }
  return lines;
}

/** Labels all lines of even distances. */
function evenOrLogarithmicTicks(u: UPlot, splits: number[]): (number | null)[] {
  const isEven = splits.length > 0 && splits.at(-1)! < EVEN_FACTOR * splits[0]!;
  return isEven ? splits : logarithmicTicks(u, splits);
}

/** Labels powers of ten, and their halves where there are few. */
function logarithmicTicks(_u: UPlot, splits: number[]): (number | null)[] {
  const leading = (value: number) => Number(value.toExponential(0)[0]);
  const powers = splits.filter((value) => leading(value) === 1).length;
  const shown = powers > 2 ? [1] : powers > 1 ? [1, 3] : [1, 2, 5];
  return splits.map((value) => (shown.includes(leading(value)) ? value : null));
}
