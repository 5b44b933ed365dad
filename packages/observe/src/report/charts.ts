/** The charts of a run, from its columns: thinned to what a page can show, whole or a stretch of steps. */

import type { Column, GroupColumns, MetricColumns } from './columns.ts';
import type { ChartData, LoadData, SeriesData, SeriesRole, StepRange } from './data.ts';
import { movingAverage, selectExtremes, smooth } from './downsample.ts';

/** Points of one series in the page; about as many as a wide plot has columns of pixels. */
const POINTS = 1600;
/** Of the norms of groups, of which there are many. */
const GROUP_POINTS = 800;

const GROUP_ROLES = [
  'first',
  'second',
  'third',
  'fourth',
  'fifth',
  'sixth',
  'seventh',
  'eighth',
] as const satisfies readonly SeriesRole[];

/** Facts of the run that follow from its metrics. */
export interface RunSummary {
  readonly steps: number;
  readonly tokens: number;
  readonly firstTime: string | undefined;
  readonly lastTime: string | undefined;
  /** Smoothed loss at the last step; NaN when there is none. */
  readonly trainingLoss: number;
  readonly validation: { readonly step: number; readonly loss: number } | undefined;
  readonly medianTokensPerSecond: number;
  readonly secondsOfSteps: number;
  readonly peakMemoryBytes: number;
  readonly skippedUpdates: number;
  /** Lines of the log that could not be read. */
  readonly damagedLines: number;
}

export function summaryOf(columns: MetricColumns, damagedLines: number): RunSummary {
  const validation = columns.validation.values();
  const lastValidation = validation.findLastIndex(Number.isFinite);
  const steps = columns.length > 0 ? columns.steps.at(columns.length - 1) : 0;
  return {
    steps,
    tokens: columns.length > 0 ? columns.tokens.at(columns.length - 1) : 0,
    firstTime: columns.firstTime,
    lastTime: columns.lastTime,
    trainingLoss: movingAverage(columns.loss.values(), memorySteps(columns)).at(-1) ?? Number.NaN,
    validation:
      lastValidation < 0
        ? undefined
        : { step: columns.steps.at(lastValidation), loss: validation[lastValidation]! },
    medianTokensPerSecond: median(columns.throughput.values()),
    // Steps whose line is not there, or has not been read yet, took as long as the others.
    secondsOfSteps: (sumOf(columns.seconds.total.values()) * steps) / Math.max(1, columns.length),
    peakMemoryBytes: largestOf(columns.memory.values()),
    skippedUpdates: columns.skipped.length,
    damagedLines,
  };
}

/** The memory of the smoothed curves, in steps: a hundredth of the run. */
function memorySteps({ length }: MetricColumns): number {
  return Math.min(500, Math.max(2, Math.round(length / 100)));
}

/** @param range steps that are shown; all when left out */
export function chartsOf(
  columns: MetricColumns,
  unigramLoss: number | undefined,
  range?: StepRange | undefined,
): ChartData[] {
  const memory = memorySteps(columns);
  const series = seriesOver(columns, range);
  const { loss, validation, norm, throughput, violation, auxiliary } = columns;
  const charts: ChartData[] = [
    {
      id: 'loss',
      title: 'Loss',
      unit: 'nats a token',
      numbers: 'plain',
      wide: true,
      marked: true,
      ...series([
        ['training', 'raw', loss.values()],
        [`training, smoothed over ${memory} steps`, 'smoothed', smooth(loss.values(), memory)],
        ...(validation.values().some(Number.isFinite)
          ? [['validation', 'validation', validation.values()] satisfies Line]
          : []),
        ...(unigramLoss === undefined
          ? []
          : [['unigram model', 'reference', loss.values().map(() => unigramLoss)] satisfies Line]),
      ]),
    },
    {
      id: 'gradient-norm',
      title: 'Gradient norm',
      unit: 'L2, before clipping',
      numbers: 'plain',
      logarithmic: true,
      marked: true,
      // A logarithmic axis has no place for zero.
      ...series([
        ['gradient norm', 'raw', positive(norm.values())],
        ['smoothed', 'smoothed', smooth(positive(norm.values()).map(Math.log), memory).map(Math.exp)],
      ]),
    },
    {
      id: 'group-norms',
      title: 'Gradient norm by group',
      unit: 'L2, before clipping',
      numbers: 'plain',
      logarithmic: true,
      marked: true,
      ...series(groupLines(columns.groups, columns.length), GROUP_POINTS),
    },
    {
      id: 'update-sizes',
      title: 'Update relative to weights, by group',
      unit: '‖update‖ ÷ ‖weights‖',
      numbers: 'exponential',
      logarithmic: true,
      marked: true,
      ...series(groupLines(columns.updates, columns.length), GROUP_POINTS),
    },
    {
      id: 'learning-rate',
      title: 'Learning rate',
      unit: '',
      numbers: 'exponential',
      fromZero: true,
      ...series([['learning rate', 'first', columns.rate.values()]]),
    },
    {
      id: 'throughput',
      title: 'Throughput',
      unit: 'tokens a second',
      numbers: 'count',
      fromZero: true,
      ...series([
        ['each step', 'raw', throughput.values()],
        ['smoothed', 'smoothed', smooth(throughput.values(), memory)],
      ]),
    },
    {
      id: 'step-time',
      title: 'Time of a step',
      unit: 'seconds, mean of the workers, smoothed',
      numbers: 'plain',
      fromZero: true,
      top: robustTop(columns.seconds.compute.values()),
      ...series(stepParts(columns, memory)),
    },
    {
      id: 'max-violation',
      title: 'Expert imbalance',
      unit: 'max load ÷ mean load − 1, mean over layers',
      numbers: 'plain',
      fromZero: true,
      ...series([
        ['each step', 'raw', violation.values()],
        ['smoothed', 'smoothed', smooth(violation.values(), memory)],
      ]),
    },
    {
      id: 'auxiliary-loss',
      title: 'Auxiliary loss',
      unit: 'nats a token, weighted',
      numbers: 'plain',
      ...series(
        columns.loads.length === 0
          ? []
          : [
              ['each step', 'raw', auxiliary.values()],
              ['smoothed', 'smoothed', smooth(auxiliary.values(), memory)],
            ],
      ),
    },
    {
      id: 'memory',
      title: 'Peak memory',
      unit: 'resident, of the worker that has most',
      numbers: 'bytes',
      fromZero: true,
      ...series([['peak memory', 'first', columns.memory.values()]]),
    },
  ];
  return charts.filter((chart) => chart.series.some(({ values }) => values.some((value) => value !== null)));
}

/** A log of a version that did not tell waiting from moving has both in one. */
function stepParts({ seconds }: MetricColumns, memory: number): Line[] {
  const smoothed = (column: Column) => smooth(column.values(), memory);
  const lines: Line[] = [
    ['compute', 'first', smoothed(seconds.compute)],
    ['wait for workers', 'fourth', smoothed(seconds.waiting)],
    ['communicate', 'second', smoothed(seconds.communicate)],
    ['optimize', 'third', smoothed(seconds.optimize)],
  ];
  if (seconds.waiting.values().some(Number.isFinite)) return lines;
  return lines.flatMap(([label, role, values]) => {
    if (role === 'fourth') return [];
    return [[role === 'second' ? 'communicate, waiting included' : label, role, values] as const];
  });
}

type Line = readonly [label: string, role: SeriesRole, values: ArrayLike<number>];

/** For a logarithmic axis. */
function groupLines({ groups }: GroupColumns, rows: number): Line[] {
  return [...groups].map(([group, column], i) => [
    group,
    GROUP_ROLES[i % GROUP_ROLES.length]!,
    positive(column.values(rows)),
  ]);
}

/** Series over common steps: of each one its extremes, and of the validations all up to the limit. */
function seriesOver(
  columns: MetricColumns,
  range: StepRange | undefined,
): (lines: readonly Line[], points?: number) => Pick<ChartData, 'steps' | 'series'> {
  const steps = columns.steps.values();
  const start = range ? firstRow(steps, range.from) : 0;
  const end = range ? firstRow(steps, range.to + 1) : steps.length;
  return (lines, points = POINTS) => {
    const shown = lines.map(([label, role, values]): Line => [label, role, stretch(values, start, end)]);
    const chosen = new Set<number>();
    const drawn = shown.filter(([, role]) => role !== 'reference').length;
    for (const [, role, values] of shown) {
      if (role === 'reference') continue;
      const indices =
        role === 'validation'
          ? selectSparse(values, points)
          : selectExtremes(values, points / Math.max(1, drawn));
      for (const index of indices) chosen.add(index);
    }
    const order = [...chosen].sort((a, b) => a - b);
    return {
      steps: order.map((index) => steps[start + index]!),
      series: shown.map(
        ([label, role, values]): SeriesData => ({
          label,
          role,
          values: order.map((index) => compact(values[index] ?? Number.NaN)),
        }),
      ),
    };
  };
}

function stretch(values: ArrayLike<number>, start: number, end: number): ArrayLike<number> {
  if (start === 0 && end >= values.length) return values;
  return (values as Float64Array).subarray(start, end);
}

/** The first row of a step of at least `step`. */
function firstRow(steps: ArrayLike<number>, step: number): number {
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle]! < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function loadOf({ loads }: MetricColumns): LoadData | undefined {
  const first = loads[0]?.load;
  if (first === undefined) return undefined;
  return {
    steps: loads.map(({ step }) => step),
    layers: first.length,
    experts: first[0]?.length ?? 0,
    values: loads.map(({ load }) =>
      load.flatMap((layer) => {
        const total = layer.reduce((a, b) => a + b, 0);
        return layer.map((share) => Number((total > 0 ? (share * layer.length) / total : 0).toFixed(3)));
      }),
    ),
  };
}

/** Indices of the finite values of a series that mostly has none. */
function selectSparse(values: ArrayLike<number>, limit: number): number[] {
  const present: number[] = [];
  for (let index = 0; index < values.length; index++) if (Number.isFinite(values[index])) present.push(index);
  const kept = selectExtremes(
    present.map((index) => values[index]!),
    limit,
  );
  return kept.map((index) => present[index]!);
}

function positive(values: ArrayLike<number>): Float64Array {
  const shown = new Float64Array(values.length);
  for (let i = 0; i < shown.length; i++) shown[i] = values[i]! > 0 ? values[i]! : Number.NaN;
  return shown;
}

/** Six digits, which a plot cannot show; null where there is no number. */
export function compact(value: number): number | null {
  return Number.isFinite(value) ? Number(value.toPrecision(6)) : null;
}

/** Room for all values but the highest one in two hundred (the first step compiles and allocates). */
function robustTop(values: ArrayLike<number>): number | undefined {
  const sorted = finiteOf(values).sort();
  const high = sorted[Math.floor(sorted.length * 0.995) - 1];
  return high === undefined ? undefined : high * 1.25;
}

function finiteOf(values: ArrayLike<number>): Float64Array {
  const finite = new Float64Array(values.length);
  let count = 0;
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i])) finite[count++] = values[i]!;
  return finite.subarray(0, count);
}

function sumOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i])) sum += values[i]!;
  return sum;
}

function largestOf(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) if (values[i]! > most) most = values[i]!;
  return most;
}

function median(values: ArrayLike<number>): number {
  const sorted = finiteOf(values).sort();
  if (sorted.length === 0) return Number.NaN;
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
