/** What a run's logs hold, kept up to date while somebody looks: read once, then only what is new. */

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DIAGNOSTICS_FILE, parseDiagnostics } from '../diagnosticsLog.ts';
import { METRICS_FILE, parseRecord } from '../metricsLog.ts';
import { describeColumns } from '../report/collect.ts';
import { MetricColumns } from '../report/columns.ts';
import type { StepRange, WayBack } from '../report/data.ts';
import { describeDiagnostics, Measurements } from '../report/diagnostics.ts';
import type { ReportFacts } from '../report/facts.ts';
import { type CollectedSuperseded, collectSuperseded, withGivenUp } from '../report/givenUp.ts';
import { newestSamples, type ShownSample } from '../report/samples.ts';
import type { CollectedRun } from '../report/sections.ts';
import { parseSample, SAMPLES_FILE, type SampleRecord } from '../samplesLog.ts';
import { lastRecordIn } from '../stepLines.ts';
import { supersededFiles } from '../superseded.ts';
import { Bell } from './bell.ts';
import { LinesFollower, sampleLines } from './linesFollower.ts';

/** How often the files are looked at, ms; seldom where reading what is new takes long. */
const LOOK_MS = 500;

/** Logs from this size on are sampled first. */
const LARGE_BYTES = 1 << 24;
const SAMPLES = 1000;
/** How long the rest of such a log waits for that first picture to be sent, ms. */
const FIRST_PICTURE_MS = 1000;

export class RunFollower {
  readonly path: string;
  readonly #metrics: LinesFollower<NonNullable<ReturnType<typeof parseRecord>>>;
  readonly #diagnostics: LinesFollower<NonNullable<ReturnType<typeof parseDiagnostics>>>;
  readonly #samplesLog: LinesFollower<SampleRecord>;
  readonly #sampleRecords: SampleRecord[] = [];
  readonly #columns = new MetricColumns();
  readonly #measurements = new Measurements();
  /** Steps here and there, until all of a long log is read. */
  #sampled: MetricColumns | undefined;
  #superseded: { readonly key: string; readonly collected: CollectedSuperseded } | undefined;
  #closed = false;
  readonly #news = new Bell();
  /** Grows whenever there is something new. */
  version = 0;
  /** Share of the log that has been read, while a long one is read for the first time. */
  progress = 1;
  /** Resolves when there is something to show. */
  readonly ready: Promise<void>;

  constructor(path: string) {
    this.path = path;
    this.#metrics = new LinesFollower(join(path, METRICS_FILE), {
      parse: parseRecord,
      take: (record) => this.#columns.add(record),
      cut: (rows) => this.#columns.cut(rows),
    });
    this.#diagnostics = new LinesFollower(join(path, DIAGNOSTICS_FILE), {
      parse: parseDiagnostics,
      take: (record) => this.#measurements.add(record),
      cut: (count) =>
        this.#measurements.cut(count, lastRecordIn(join(path, DIAGNOSTICS_FILE), parseDiagnostics)),
    });
    this.#samplesLog = new LinesFollower(join(path, SAMPLES_FILE), {
      parse: parseSample,
      take: (record) => this.#sampleRecords.push(record),
      cut: (count) => {
        this.#sampleRecords.length = count;
      },
    });
    this.ready = this.#readFirst();
    this.ready
      .then(() => (this.#sampled ? delay(FIRST_PICTURE_MS, undefined, { ref: false }) : undefined))
      .then(() => this.#follow())
      .catch(() => {});
  }

  /** The metrics as far as they are known. */
  get columns(): MetricColumns {
    return this.#sampled ?? this.#columns;
  }

  /** The newest texts of the model. */
  get samples(): ShownSample[] {
    return newestSamples(this.#sampleRecords);
  }

  close(): void {
    this.#closed = true;
    this.#metrics.close();
    this.#diagnostics.close();
    this.#samplesLog.close();
    this.#tell();
  }

  /** Waits for a version other than that, or for a while. */
  async changed(version: number, limitMs: number): Promise<void> {
    if (this.version !== version || this.#closed) return;
    await this.#news.wait(limitMs);
  }

  /** What a page shows of the run. @param range steps of the charts; all when left out */
  async describe(facts: ReportFacts, range?: StepRange): Promise<CollectedRun> {
    const { spikes = [], rollbacks = [], unigramLoss } = facts;
    const { damagedLines } = this.#metrics;
    const { summary, data } = describeColumns(this.columns, { damagedLines, unigramLoss, range });
    const { givenUp, takenAgain } = await this.#collectSuperseded(rollbacks);
    const within = givenUp.map((records) =>
      records.filter(({ step }) => !range || (step >= range.from && step <= range.to)),
    );
    const shown = within.filter((records) => records.length > 0);
    return {
      summary,
      diagnostics: describeDiagnostics(this.#measurements, range),
      samples: this.samples,
      takenAgain,
      data: {
        ...data,
        charts: data.charts.map((chart) => withGivenUp(chart, shown)),
        spikes: spikes.map(({ start, end, isGivenUp }) => ({ start, end, isGivenUp })),
        rollbacks,
      },
    };
  }

  /** Superseded logs do not change: they are read when there is another. */
  async #collectSuperseded(rollbacks: readonly WayBack[]): Promise<CollectedSuperseded> {
    const key = JSON.stringify([supersededFiles(this.path), rollbacks]);
    if (this.#superseded?.key !== key) {
      this.#superseded = { key, collected: await collectSuperseded(this.path, rollbacks) };
    }
    return this.#superseded.collected;
  }

  async #readFirst(): Promise<void> {
    const size = statSync(this.#metrics.path, { throwIfNoEntry: false })?.size ?? 0;
    await this.#readOthers();
    if (size < LARGE_BYTES) {
      await this.#metrics.read();
    } else {
      this.#sampled = new MetricColumns();
      this.progress = 0;
      let before = 0;
      for (const line of await sampleLines(this.#metrics.path, SAMPLES)) {
        const record = parseRecord(line);
        // Tokens of the steps between as well.
        if (record && record.step > before) {
          this.#sampled.add({ ...record, tokens: record.tokens * (record.step - before) });
          before = record.step;
        }
      }
    }
    this.#tell();
  }

  async #follow(): Promise<void> {
    while (!this.#closed) {
      const started = performance.now();
      const hasChanged = [await this.#readMetrics(), await this.#readOthers()].includes(true);
      if (hasChanged) this.#tell();
      await delay(Math.max(LOOK_MS, 4 * (performance.now() - started)), undefined, { ref: false });
    }
  }

  /** What is short beside the metrics. */
  async #readOthers(): Promise<boolean> {
    return [await this.#diagnostics.read(), await this.#samplesLog.read()].includes(true);
  }

  async #readMetrics(): Promise<boolean> {
    const isFirst = this.#sampled !== undefined;
    const hasChanged = await this.#metrics.read((bytes, size) => {
      const progress = bytes / size;
      if (!isFirst || progress - this.progress < 0.1) return;
      this.progress = progress;
      this.#tell();
    });
    this.#sampled = undefined;
    this.progress = 1;
    return hasChanged || isFirst;
  }

  #tell(): void {
    this.version++;
    this.#news.ring();
  }
}
