/** Reads a run's metrics once and makes of them what the report shows. */

import { readMetrics } from '../metricsLog.ts';
import { maxViolation, STEP_PARTS, type StepRecord } from '../record.ts';
import type { ChartData, LoadData, ReportData, SeriesData, SeriesRole } from './data.ts';
import { movingAverage, selectExtremes, smooth, Thinner } from './downsample.ts';

/** Points of one series in the page; about as many as a wide plot has columns of pixels. */
const POINTS = 1600;
/** Numbers of the expert loads in the page, all steps together. */
const LOAD_NUMBERS = 150_000;
const LOAD_SNAPSHOTS = 120;
const MARKS = 200;
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

export interface CollectedMetrics {
  readonly summary: RunSummary;
  readonly data: Omit<ReportData, 'spikes' | 'rollbacks'>;
}

/** Reads `metrics.jsonl` and reduces it to plots of bounded size. */
export async function collectMetrics(
  path: string,
  { unigramLoss }: { unigramLoss?: number | undefined } = {},
): Promise<CollectedMetrics> {
  const columns = new Columns();
  let damagedLines = 0;
  const onDamaged = () => {
    damagedLines++;
  };
  for await (const record of readMetrics(path, { onDamaged })) columns.add(record);
  return {
    summary: columns.summary(damagedLines),
    data: {
      charts: columns.charts(unigramLoss),
      load: columns.load(),
      skipped: columns.skipped.slice(0, MARKS),
    },
  };
}

/** Columns by groups of parameters. Where nothing was put, they hold NaN: a group that older lines did not have begins late. */
class GroupColumns {
  readonly #values = new Map<string, number[]>();

  put(row: number, values: Readonly<Record<string, number>> = {}): void {
    for (const [group, value] of Object.entries(values)) {
      const column = this.#values.get(group) ?? [];
      this.#values.set(group, column);
      while (column.length < row) column.push(Number.NaN);
      column[row] = value;
    }
  }

  /** For a logarithmic axis. */
  columns(rows: number): Column[] {
    return [...this.#values].map(([group, values], i) => [
      group,
      GROUP_ROLES[i % GROUP_ROLES.length]!,
      positive(Array.from({ length: rows }, (_, row) => values[row] ?? Number.NaN)),
    ]);
  }
}

/** The metrics of all the steps, column by column. */
class Columns {
  readonly steps: number[] = [];
  readonly loss: number[] = [];
  readonly validation: number[] = [];
  readonly auxiliary: number[] = [];
  readonly norm: number[] = [];
  readonly rate: number[] = [];
  readonly throughput: number[] = [];
  readonly violation: number[] = [];
  readonly memory: number[] = [];
  readonly seconds = {
    total: [] as number[],
    compute: [] as number[],
    waiting: [] as number[],
    communicate: [] as number[],
    optimize: [] as number[],
  };
  /** Gradient norms of the groups of parameters. */
  readonly groups = new GroupColumns();
  /** Sizes of updates, relative to weights. */
  readonly updates = new GroupColumns();
  readonly skipped: number[] = [];
  #tokens = 0;
  #firstTime: string | undefined;
  #lastTime: string | undefined;
  #loads: Thinner<{ step: number; load: NonNullable<StepRecord['expertLoad']> }> | undefined;

  add(record: StepRecord): void {
    this.steps.push(record.step);
    this.loss.push(record.loss);
    this.validation.push(record.validationLoss ?? Number.NaN);
    this.auxiliary.push(record.auxiliaryLoss);
    this.norm.push(record.gradientNorm);
    this.groups.put(this.steps.length - 1, record.groupNorms);
    // The size of an update is in the line of the step after it.
    const { lastUpdate } = record;
    if (lastUpdate && this.steps.at(-2) === record.step - 1) {
      this.updates.put(this.steps.length - 2, { 'whole model': lastUpdate.overall, ...lastUpdate.groups });
    }
    this.rate.push(record.learningRate);
    this.throughput.push(record.tokensPerSecond);
    this.violation.push(maxViolation(record.expertLoad));
    this.memory.push(record.peakMemoryBytes);
    for (const part of ['total', ...STEP_PARTS] as const) {
      this.seconds[part].push(record.seconds[part]);
    }
    if (Number.isFinite(record.tokens)) this.#tokens += record.tokens;
    if (!record.applied) this.skipped.push(record.step);
    this.#firstTime ??= record.time || undefined;
    this.#lastTime = record.time || this.#lastTime;
    if (record.expertLoad !== undefined && record.expertLoad.length > 0) {
      const numbers = record.expertLoad.length * (record.expertLoad[0]?.length ?? 1);
      const limit = Math.min(LOAD_SNAPSHOTS, Math.max(8, Math.floor(LOAD_NUMBERS / numbers)));
      this.#loads ??= new Thinner(limit);
      this.#loads.add({ step: record.step, load: record.expertLoad });
    }
  }

  summary(damagedLines: number): RunSummary {
    const lastValidation = this.validation.findLastIndex(Number.isFinite);
    return {
      steps: this.steps.at(-1) ?? 0,
      tokens: this.#tokens,
      firstTime: this.#firstTime,
      lastTime: this.#lastTime,
      trainingLoss: movingAverage(this.loss, this.#memorySteps()).at(-1) ?? Number.NaN,
      validation:
        lastValidation < 0
          ? undefined
          : { step: this.steps[lastValidation]!, loss: this.validation[lastValidation]! },
      medianTokensPerSecond: median(this.throughput),
      secondsOfSteps: this.seconds.total.reduce(
        (sum, value) => sum + (Number.isFinite(value) ? value : 0),
        0,
      ),
      peakMemoryBytes: this.memory.reduce((most, value) => (value > most ? value : most), 0),
      skippedUpdates: this.skipped.length,
      damagedLines,
    };
  }

  /** The memory of the smoothed curves, in steps: a hundredth of the run. */
  #memorySteps(): number {
    return Math.min(500, Math.max(2, Math.round(this.steps.length / 100)));
  }

  charts(unigramLoss: number | undefined): ChartData[] {
    const memory = this.#memorySteps();
    const charts: ChartData[] = [
      {
        id: 'loss',
        title: 'Loss',
        unit: 'nats a token',
        numbers: 'plain',
        wide: true,
        marked: true,
        ...this.#series([
          ['training', 'raw', this.loss],
          [`training, smoothed over ${memory} steps`, 'smoothed', smooth(this.loss, memory)],
          ...(this.validation.some(Number.isFinite)
            ? [['validation', 'validation', this.validation] satisfies Column]
            : []),
          ...(unigramLoss === undefined
            ? []
            : [['unigram model', 'reference', this.steps.map(() => unigramLoss)] satisfies Column]),
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
        ...this.#series([
          ['gradient norm', 'raw', positive(this.norm)],
          ['smoothed', 'smoothed', smooth(positive(this.norm).map(Math.log), memory).map(Math.exp)],
        ]),
      },
      {
        id: 'group-norms',
        title: 'Gradient norm by group',
        unit: 'L2, before clipping',
        numbers: 'plain',
        logarithmic: true,
        marked: true,
        ...this.#series(this.groups.columns(this.steps.length), GROUP_POINTS),
      },
      {
        id: 'update-sizes',
        title: 'Update relative to weights, by group',
        unit: '‖update‖ ÷ ‖weights‖',
        numbers: 'exponential',
        logarithmic: true,
        marked: true,
        ...this.#series(this.updates.columns(this.steps.length), GROUP_POINTS),
      },
      {
        id: 'learning-rate',
        title: 'Learning rate',
        unit: '',
        numbers: 'exponential',
        fromZero: true,
        ...this.#series([['learning rate', 'first', this.rate]]),
      },
      {
        id: 'throughput',
        title: 'Throughput',
        unit: 'tokens a second',
        numbers: 'count',
        fromZero: true,
        ...this.#series([
          ['each step', 'raw', this.throughput],
          ['smoothed', 'smoothed', smooth(this.throughput, memory)],
        ]),
      },
      {
        id: 'step-time',
        title: 'Time of a step',
        unit: 'seconds, mean of the workers, smoothed',
        numbers: 'plain',
        fromZero: true,
        top: robustTop(this.seconds.compute),
        ...this.#series(this.#stepParts(memory)),
      },
      {
        id: 'max-violation',
        title: 'Expert imbalance',
        unit: 'max load ÷ mean load − 1, mean over layers',
        numbers: 'plain',
        fromZero: true,
        ...this.#series([
          ['each step', 'raw', this.violation],
          ['smoothed', 'smoothed', smooth(this.violation, memory)],
        ]),
      },
      {
        id: 'auxiliary-loss',
        title: 'Auxiliary loss',
        unit: 'nats a token, weighted',
        numbers: 'plain',
        ...this.#series([
          ['each step', 'raw', this.#loads === undefined ? [] : this.auxiliary],
          ['smoothed', 'smoothed', this.#loads === undefined ? [] : smooth(this.auxiliary, memory)],
        ]),
      },
      {
        id: 'memory',
        title: 'Peak memory',
        unit: 'resident, of the worker that has most',
        numbers: 'bytes',
        fromZero: true,
        ...this.#series([['peak memory', 'first', this.memory]]),
      },
    ];
    return charts.filter((chart) =>
      chart.series.some(({ values }) => values.some((value) => value !== null)),
    );
  }

  /** A log of a version that did not tell waiting from moving has both in one. */
  #stepParts(memory: number): Column[] {
    const { compute, waiting, communicate, optimize } = this.seconds;
    const columns: Column[] = [
      ['compute', 'first', smooth(compute, memory)],
      ['wait for workers', 'fourth', smooth(waiting, memory)],
      ['communicate', 'second', smooth(communicate, memory)],
      ['optimize', 'third', smooth(optimize, memory)],
    ];
    if (waiting.some(Number.isFinite)) return columns;
    return columns.flatMap(([label, role, values]) => {
      if (role === 'fourth') return [];
      return [[role === 'second' ? 'communicate, waiting included' : label, role, values] as const];
    });
  }

  /** Series over common steps: of each one its extremes, and of the validations all up to the limit. */
  #series(columns: readonly Column[], points = POINTS): Pick<ChartData, 'steps' | 'series'> {
    const chosen = new Set<number>();
    for (const [, role, values] of columns) {
      const indices =
        role === 'validation'
          ? selectSparse(values, points)
          : role === 'reference'
            ? []
            : selectExtremes(
                values,
                points / Math.max(1, columns.filter(([, other]) => other !== 'reference').length),
              );
      for (const index of indices) chosen.add(index);
    }
    const order = [...chosen].sort((a, b) => a - b);
    return {
      steps: order.map((index) => this.steps[index]!),
      series: columns.map(
        ([label, role, values]): SeriesData => ({
          label,
          role,
          values: order.map((index) => compact(values[index] ?? Number.NaN)),
        }),
      ),
    };
  }

  load(): LoadData | undefined {
    const snapshots = this.#loads?.items;
    const first = snapshots?.[0]?.load;
    if (snapshots === undefined || first === undefined) return undefined;
    return {
      steps: snapshots.map(({ step }) => step),
      layers: first.length,
      experts: first[0]?.length ?? 0,
      values: snapshots.map(({ load }) =>
        load.flatMap((layer) => {
          const total = layer.reduce((a, b) => a + b, 0);
          return layer.map((share) => Number((total > 0 ? (share * layer.length) / total : 0).toFixed(3)));
        }),
      ),
    };
  }
}

type Column = readonly [label: string, role: SeriesRole, values: readonly number[]];

/** Indices of the finite values of a series that mostly has none. */
function selectSparse(values: readonly number[], limit: number): number[] {
  const present = values.flatMap((value, index) => (Number.isFinite(value) ? [index] : []));
  const kept = selectExtremes(
    present.map((index) => values[index]!),
    limit,
  );
  return kept.map((index) => present[index]!);
}

function positive(values: readonly number[]): number[] {
  return values.map((value) => (value > 0 ? value : Number.NaN));
}

function compact(value: number): number | null {
  return Number.isFinite(value) ? Number(value.toPrecision(6)) : null;
}

/** Room for all values but the highest one in two hundred (the first step compiles and allocates). */
function robustTop(values: readonly number[]): number | undefined {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  const high = sorted[Math.floor(sorted.length * 0.995) - 1];
  return high === undefined ? undefined : high * 1.25;
}

function median(values: readonly number[]): number {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (sorted.length === 0) return Number.NaN;
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
