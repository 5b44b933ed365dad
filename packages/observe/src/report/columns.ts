/** The metrics of all the steps of a run, column by column: as they are read, and taken back where a run goes back. */

import { maxViolation, STEP_PARTS, type StepRecord } from '../record.ts';
import { Thinner } from './downsample.ts';

/** Numbers of the expert loads in the page, all steps together. */
const LOAD_NUMBERS = 150_000;
const LOAD_SNAPSHOTS = 120;

/** Numbers that grow at the end, in single precision unless asked: seven digits are more than a plot shows. */
export class Column {
  #values: Float32Array | Float64Array;
  #length = 0;

  constructor(precision: 'single' | 'double' = 'single') {
    this.#values = precision === 'single' ? new Float32Array(256) : new Float64Array(256);
  }

  get length(): number {
    return this.#length;
  }

  at(row: number): number {
    return row < this.#length ? this.#values[row]! : Number.NaN;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const grown = new (this.#values.constructor as Float32ArrayConstructor)(2 * this.#length);
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values[this.#length++] = value;
  }

  /** Puts a value into a row at or after the end; the rows between hold NaN. */
  put(row: number, value: number): void {
    while (this.#length < row) this.push(Number.NaN);
    this.push(value);
  }

  cut(rows: number): void {
    this.#length = Math.min(this.#length, rows);
  }

  /** As long as it is asked for; where nothing was put, NaN. Valid until the next change. */
  values(rows = this.#length): Float32Array | Float64Array {
    if (rows <= this.#length) return this.#values.subarray(0, rows);
    const filled = new Float64Array(rows).fill(Number.NaN);
    filled.set(this.#values.subarray(0, this.#length));
    return filled;
  }
}

/** Columns by groups of parameters. Where nothing was put, they hold NaN: a group that older lines did not have begins late. */
export class GroupColumns {
  readonly #columns = new Map<string, Column>();

  put(row: number, values: Readonly<Record<string, number>> = {}): void {
    for (const group in values) {
      let column = this.#columns.get(group);
      if (column === undefined) {
        column = new Column();
        this.#columns.set(group, column);
      }
      column.put(row, values[group]!);
    }
  }

  cut(rows: number): void {
    for (const column of this.#columns.values()) column.cut(rows);
  }

  get groups(): ReadonlyMap<string, Column> {
    return this.#columns;
  }
}

/** Loads of all experts after a step. */
export interface LoadSnapshot {
  readonly step: number;
  readonly load: NonNullable<StepRecord['expertLoad']>;
}

/** One row for each step that was read. */
export class MetricColumns {
  readonly steps = new Column('double');
  /** Tokens up to and including the step. */
  readonly tokens = new Column('double');
  /** When the step had ended, ms since 1970. */
  readonly times = new Column('double');
  readonly loss = new Column();
  readonly validation = new Column();
  readonly auxiliary = new Column();
  readonly norm = new Column();
  readonly rate = new Column('double');
  readonly throughput = new Column();
  readonly violation = new Column();
  readonly memory = new Column('double');
  readonly seconds = {
    total: new Column(),
    compute: new Column(),
    waiting: new Column(),
    communicate: new Column(),
    optimize: new Column(),
  };
  /** Gradient norms of the groups of parameters. */
  readonly groups = new GroupColumns();
  /** Sizes of updates, relative to weights. */
  readonly updates = new GroupColumns();
  /** Steps whose update was left out. */
  skipped: number[] = [];
  /** Of the first step and of the last, as they were recorded. */
  firstTime: string | undefined;
  lastTime: string | undefined;
  #loads: Thinner<LoadSnapshot> | undefined;

  get length(): number {
    return this.steps.length;
  }

  get loads(): readonly LoadSnapshot[] {
    return this.#loads?.items ?? [];
  }

  add(record: StepRecord): void {
    const row = this.length;
    this.steps.push(record.step);
    this.tokens.push(
      (row > 0 ? this.tokens.at(row - 1) : 0) + (Number.isFinite(record.tokens) ? record.tokens : 0),
    );
    this.times.push(Date.parse(record.time));
    this.loss.push(record.loss);
    this.validation.push(record.validationLoss ?? Number.NaN);
    this.auxiliary.push(record.auxiliaryLoss);
    this.norm.push(record.gradientNorm);
    this.groups.put(row, record.groupNorms);
    // The size of an update is in the line of the step after it.
    const { lastUpdate } = record;
    if (lastUpdate && row > 0 && this.steps.at(row - 1) === record.step - 1) {
      this.updates.put(row - 1, { 'whole model': lastUpdate.overall, ...lastUpdate.groups });
    }
    this.rate.push(record.learningRate);
    this.throughput.push(record.tokensPerSecond);
    this.violation.push(maxViolation(record.expertLoad));
    this.memory.push(record.peakMemoryBytes);
    for (const part of ['total', ...STEP_PARTS] as const) this.seconds[part].push(record.seconds[part]);
    if (!record.applied) this.skipped.push(record.step);
    this.firstTime ??= record.time || undefined;
    this.lastTime = record.time || this.lastTime;
    if (record.expertLoad !== undefined && record.expertLoad.length > 0)
      this.#addLoad(record.step, record.expertLoad);
  }

  #addLoad(step: number, load: LoadSnapshot['load']): void {
    const numbers = load.length * (load[0]?.length ?? 1);
    const limit = Math.min(LOAD_SNAPSHOTS, Math.max(8, Math.floor(LOAD_NUMBERS / numbers)));
    this.#loads ??= new Thinner(limit);
    this.#loads.add({ step, load });
  }

  /** Takes all rows but the first ones back: the run took these steps again, or gave them up. */
  cut(rows: number): void {
    const last = rows > 0 ? this.steps.at(rows - 1) : 0;
    const columns = [
      this.steps,
      this.tokens,
      this.times,
      this.loss,
      this.validation,
      this.auxiliary,
      this.norm,
    ];
    columns.push(this.rate, this.throughput, this.violation, this.memory, ...Object.values(this.seconds));
    for (const column of columns) column.cut(rows);
    this.groups.cut(rows);
    // That of the last step that is left was told by a step that is gone.
    this.updates.cut(Math.max(0, rows - 1));
    this.skipped = this.skipped.filter((step) => step <= last);
    this.#loads?.cut(({ step }) => step <= last);
    if (rows === 0) this.firstTime = undefined;
  }
}
