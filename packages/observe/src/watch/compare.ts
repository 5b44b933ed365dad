/** One measure of several runs over each other: over steps, tokens or time, smoothed, or as what separates them from one run. */

import { compact } from '../report/charts.ts';
import type { MetricColumns } from '../report/columns.ts';
import type { ChartData } from '../report/data.ts';
import { movingAverage, selectExtremes } from '../report/downsample.ts';

/** Points of one curve. */
const COMPARED_POINTS = 1200;

interface Measure extends Pick<ChartData, 'numbers'> {
  readonly title: string;
  readonly unit: string;
  readonly values: (columns: MetricColumns) => ArrayLike<number>;
  /** Measured after few steps only. */
  readonly isSparse?: boolean;
}

export const MEASURES = {
  loss: {
    title: 'Training loss',
    unit: 'nats a token',
    numbers: 'plain',
    values: ({ loss }) => loss.values(),
  },
  validation: {
    ...{ title: 'Validation loss', unit: 'nats a token', numbers: 'plain', isSparse: true },
    values: ({ validation }) => validation.values(),
  },
  norm: {
    title: 'Gradient norm',
    unit: 'L2, before clipping',
    numbers: 'plain',
    values: ({ norm }) => norm.values(),
  },
  rate: { title: 'Learning rate', unit: '', numbers: 'exponential', values: ({ rate }) => rate.values() },
  throughput: {
    ...{ title: 'Throughput', unit: 'tokens a second', numbers: 'count' },
    values: ({ throughput }) => throughput.values(),
  },
  seconds: {
    ...{ title: 'Time of a step', unit: 'seconds', numbers: 'plain' },
    values: ({ seconds }) => seconds.total.values(),
  },
  waiting: {
    ...{ title: 'Waiting for workers', unit: 'seconds a step', numbers: 'plain' },
    values: ({ seconds }) => seconds.waiting.values(),
  },
  communicate: {
    ...{ title: 'Communication', unit: 'seconds a step, not hidden', numbers: 'plain' },
    values: ({ seconds }) => seconds.communicate.values(),
  },
  violation: {
    ...{ title: 'Expert imbalance', unit: 'max load ÷ mean load − 1', numbers: 'plain' },
    values: ({ violation }) => violation.values(),
  },
  memory: {
    title: 'Peak memory',
    unit: 'resident',
    numbers: 'bytes',
    values: ({ memory }) => memory.values(),
  },
} satisfies Record<string, Measure>;

export type MeasureName = keyof typeof MEASURES;

export const AXES = { step: 'step', tokens: 'tokens', hours: 'hours since the start' } as const;

export type AxisName = keyof typeof AXES;

export interface CompareRequest {
  readonly measure: MeasureName;
  readonly axis: AxisName;
  /** Memory of the smoothing, in steps; 0 for none. */
  readonly smoothing: number;
  /** Run that the others are told as differences to. */
  readonly base?: string | undefined;
}

export interface ComparedRun {
  readonly id: string;
  readonly name: string;
  readonly columns: MetricColumns;
}

/** Curves as a page draws them, each with an axis of its own. */
export interface Comparison extends CompareRequest, Pick<ChartData, 'numbers'> {
  readonly title: string;
  readonly unit: string;
  readonly curves: readonly {
    readonly id: string;
    readonly name: string;
    readonly x: readonly number[];
    readonly y: readonly (number | null)[];
  }[];
}

export function compareRuns(runs: readonly ComparedRun[], request: CompareRequest): Comparison {
  const measure: Measure = MEASURES[request.measure];
  const curves = runs.map(({ id, name, columns }) => ({ id, name, ...curveOf(columns, request) }));
  const base = curves.find(({ id }) => id === request.base);
  const { title, unit, numbers } = measure;
  return {
    ...request,
    ...{ title, unit: base ? `${unit}, less ${base.name}` : unit, numbers },
    curves: curves.map(({ id, name, x, y }) => {
      const values = base ? lessOf(x, y, base.x, base.y) : y;
      const chosen = selectExtremes(values, COMPARED_POINTS);
      return {
        id,
        name,
        x: chosen.map((index) => Number(x[index]!.toPrecision(9))),
        y: chosen.map((index) => compact(values[index]!)),
      };
    }),
  };
}

interface Curve {
  readonly x: ArrayLike<number>;
  readonly y: ArrayLike<number>;
}

function curveOf(columns: MetricColumns, { measure, axis, smoothing }: CompareRequest): Curve {
  const { values, isSparse }: Measure = MEASURES[measure];
  const raw = values(columns);
  const x = axisOf(columns, axis);
  if (isSparse) {
    const present = Array.from(raw).flatMap((value, index) => (Number.isFinite(value) ? [index] : []));
    return { x: present.map((index) => x[index]!), y: present.map((index) => raw[index]!) };
  }
  return { x, y: smoothing > 0 ? movingAverage(raw, smoothing) : raw };
}

function axisOf(columns: MetricColumns, axis: AxisName): ArrayLike<number> {
  if (axis === 'step') return columns.steps.values();
  if (axis === 'tokens') return columns.tokens.values();
  const times = columns.times.values();
  return Float64Array.from(times, (time) => (time - times[0]!) / 3_600_000);
}

/** A curve less another one, which is interpolated; NaN beyond its ends. */
function lessOf(
  x: ArrayLike<number>,
  y: ArrayLike<number>,
  baseX: ArrayLike<number>,
  baseY: ArrayLike<number>,
): Float64Array {
  const differences = new Float64Array(y.length).fill(Number.NaN);
  let at = 0;
  for (let i = 0; i < differences.length; i++) {
    while (at < baseX.length - 1 && baseX[at + 1]! <= x[i]!) at++;
    if (baseX.length === 0 || x[i]! < baseX[0]! || x[i]! > baseX[baseX.length - 1]!) continue;
    const [left, right] = [baseX[at]!, baseX[at + 1] ?? baseX[at]!];
    const share = right > left ? (x[i]! - left) / (right - left) : 0;
    const next = baseY[at + 1] ?? baseY[at]!;
    differences[i] = y[i]! - (share === 0 ? baseY[at]! : baseY[at]! + share * (next - baseY[at]!));
  }
  return differences;
}
