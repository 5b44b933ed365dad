/// <reference lib="dom" />
/** Curves of several runs over each other, each with steps of its own. */

import type UPlot from 'uplot';
import { chartOptions, cutsOutliers, topWithoutOutliers } from '../../report/page/charts.ts';
import { color } from '../../report/page/theme.ts';
import type { Comparison } from '../compare.ts';

declare const uPlot: typeof UPlot & { join(tables: readonly UPlot.AlignedData[]): UPlot.AlignedData };

const CURVE_COLORS = ['main', 'second', 'third', 'fourth', 'fifth', 'sixth', 'seventh', 'eighth'];
const CURVE_DASHES: readonly (readonly number[])[] = [[], [7, 4], [2, 3], [9, 3, 2, 3]];

export interface CurveLook {
  readonly stroke: string;
  readonly dash: number[];
}

/** Colours first, then lines; none depends on colour alone from the ninth on. */
export function curveLook(index: number): CurveLook {
  return {
    stroke: color(CURVE_COLORS[index % CURVE_COLORS.length]!),
    dash: [...CURVE_DASHES[Math.floor(index / CURVE_COLORS.length) % CURVE_DASHES.length]!],
  };
}

export interface CompareLook {
  readonly logarithmicX: boolean;
  readonly logarithmicY: boolean;
}

let comparePlot: { readonly plot: UPlot; readonly look: string; readonly place: HTMLElement } | undefined;

export function drawComparison(
  place: HTMLElement,
  comparison: Comparison,
  { logarithmicX, logarithmicY }: CompareLook,
  force: boolean,
): void {
  const { curves, axis, numbers, base } = comparison;
  const isLogarithmic = logarithmicY && base === undefined;
  const drawable = (value: number | null) => (isLogarithmic && value !== null && value <= 0 ? null : value);
  const tables = curves.map(({ x, y }): UPlot.AlignedData => {
    const kept = x.flatMap((value, i) => (logarithmicX && value <= 0 ? [] : [i]));
    return [kept.map((i) => x[i]!), kept.map((i) => drawable(y[i]!))];
  });
  if (tables.length === 0) {
    comparePlot?.plot.destroy();
    comparePlot = undefined;
    return;
  }
  const columns = uPlot.join(tables);
  const values = tables.map(([, y]) => y as (number | null)[]);
  const top = isLogarithmic || base !== undefined || !cutsOutliers() ? undefined : topWithoutOutliers(values);
  const look = JSON.stringify([
    curves.map(({ name }) => name),
    axis,
    numbers,
    logarithmicX,
    isLogarithmic,
    base,
    top,
  ]);
  if (!force && comparePlot?.look === look && comparePlot.place === place) {
    comparePlot.plot.setData(columns);
    return;
  }
  comparePlot?.plot.destroy();
  const series = curves.map(
    ({ name }, index): UPlot.Series => ({
      label: name,
      width: 1.75,
      points: { show: false },
      ...curveLook(index),
    }),
  );
  const options = chartOptions(
    {
      ...{ numbers, series, top, wide: true },
      logarithmic: isLogarithmic,
      tight: true,
      logarithmicSteps: logarithmicX,
    },
    place.clientWidth,
  );
  comparePlot = { plot: new uPlot(withAxis(options, axis), columns, place), look, place };
}

/** Tokens and hours are no whole steps. */
function withAxis(options: UPlot.Options, axis: Comparison['axis']): UPlot.Options {
  if (axis === 'step') return options;
  const text = axis === 'tokens' ? compactTokens : (hours: number) => `${Number(hours.toPrecision(4))} h`;
  const [x, ...others] = options.axes!;
  const { incrs: _, ...own } = x!;
  const labels: UPlot.Axis.DynamicValues = (_u, splits) =>
    splits.map((value) => (value === null ? '' : text(value)));
  const [first, ...curves] = options.series;
  return {
    ...options,
    axes: [{ ...own, values: labels }, ...others],
    series: [
      {
        ...first!,
        label: axis === 'tokens' ? 'tokens' : 'time',
        value: (_u, value) => (value === null ? '–' : text(value)),
      },
      ...curves,
    ],
  };
}

function compactTokens(tokens: number): string {
  return new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 2 }).format(tokens);
}
