/**
 * Tells an MLflow server of a run, from the run's own logs: what could not be sent stays there, and is sent the next time. What was sent
 * is in `mlflow.json`.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '@sluice/core';
import { z } from 'zod';
import { DIAGNOSTICS_FILE, type DiagnosticsRecord, parseDiagnostics } from '../diagnosticsLog.ts';
import { METRICS_FILE, parseRecord } from '../metricsLog.ts';
import type { StepRecord } from '../record.ts';
import { measuredScalars, type Scalars, stepScalars } from '../scalars.ts';
import { hyperparametersOf } from '../tensorboard/sink.ts';
import { LinesFollower } from '../watch/linesFollower.ts';
import { type MlflowAccess, MlflowClient, type MlflowMetric, type MlflowStatus } from './client.ts';

const STATE_FILE = 'mlflow.json';

const SentState = z.object({
  /** Of the server, so that another one gets the whole run. */
  url: z.string(),
  runId: z.string(),
  /** Whether the parameters were sent: a server may fail between a run and these. */
  hasParameters: z.boolean().default(true),
  /** Last step whose metrics were sent, and last one whose measurements were. */
  step: z.int(),
  measuredStep: z.int(),
});

type SentState = z.infer<typeof SentState>;

/** Steps that go into one sending. */
const STEPS_AT_ONCE = 500;

export interface MlflowRun {
  /** Its directory. */
  readonly path: string;
  readonly name: string;
  readonly experiment: string;
  /** The resolved configuration. */
  readonly config: Readonly<Record<string, unknown>>;
}

export class MlflowSender {
  readonly #run: MlflowRun;
  readonly #url: string;
  readonly #client: MlflowClient;
  readonly #metrics: LinesFollower<StepRecord>;
  readonly #diagnostics: LinesFollower<DiagnosticsRecord>;
  /** Steps of the lines that were read, and records that wait to be sent: of a long log no more than a part at a time. */
  readonly #read: number[] = [];
  readonly #readMeasured: number[] = [];
  #steps: StepRecord[] = [];
  #measured: DiagnosticsRecord[] = [];
  #state: SentState | undefined;
  /** When the last step was taken that was read; ISO 8601. */
  #lastTime = '';

  constructor(run: MlflowRun, access: MlflowAccess) {
    this.#run = run;
    this.#url = access.url;
    this.#client = new MlflowClient(access);
    this.#state = readState(run.path, access.url);
    this.#metrics = new LinesFollower(join(run.path, METRICS_FILE), {
      parse: parseRecord,
      take: (record) => {
        this.#read.push(record.step);
        if (record.step > (this.#state?.step ?? 0)) this.#steps.push(record);
        this.#lastTime = record.time;
      },
      cut: (count) => {
        const last = cutTo(this.#read, count);
        this.#steps = this.#steps.filter(({ step }) => step <= last);
        if (this.#state) this.#state = { ...this.#state, step: Math.min(this.#state.step, last) };
      },
    });
    this.#diagnostics = new LinesFollower(join(run.path, DIAGNOSTICS_FILE), {
      parse: parseDiagnostics,
      take: (record) => {
        this.#readMeasured.push(record.step);
        if (record.step > (this.#state?.measuredStep ?? 0)) this.#measured.push(record);
      },
      cut: (count) => {
        const last = cutTo(this.#readMeasured, count);
        this.#measured = this.#measured.filter(({ step }) => step <= last);
        if (this.#state) {
          this.#state = { ...this.#state, measuredStep: Math.min(this.#state.measuredStep, last) };
        }
      },
    });
  }

  /**
   * Sends what is new. MLflow forgets nothing: steps that a run takes again are told again.
   * @param onProgress told how much of the log has been told of, of how much, bytes
   * @returns how many steps that were
   * @throws SLUICE_E_SERVER_UNREACHABLE; what was not sent is sent the next time
   */
  async send(onProgress?: (done: number, total: number) => void): Promise<number> {
    // What a server did not take before waits still.
    let sent = await this.#sendSteps();
    await this.#metrics.read(async (bytes, size) => {
      sent += await this.#sendSteps();
      onProgress?.(bytes, size);
    });
    await this.#sendMeasured();
    await this.#diagnostics.read(() => this.#sendMeasured());
    await this.#makeKnown();
    return sent;
  }

  async #sendSteps(): Promise<number> {
    let sent = 0;
    while (this.#steps.length > 0) {
      const runId = await this.#makeKnown();
      const batch = this.#steps.slice(0, STEPS_AT_ONCE);
      await this.#client.logMetrics(
        runId,
        batch.flatMap((one) => metricsOf(one.step, one.time, stepScalars(one))),
      );
      sent += batch.length;
      await this.#remember({ step: batch.at(-1)!.step });
      this.#steps.splice(0, batch.length);
    }
    return sent;
  }

  async #sendMeasured(): Promise<void> {
    if (this.#measured.length === 0) return;
    const runId = await this.#makeKnown();
    await this.#client.logMetrics(
      runId,
      this.#measured.flatMap((one) => metricsOf(one.step, '', measuredScalars(one))),
    );
    await this.#remember({ measuredStep: this.#measured.at(-1)!.step });
    this.#measured = [];
  }

  /** How it is with the run, which ended with its last step where it did. @throws SLUICE_E_SERVER_UNREACHABLE */
  async end(status: MlflowStatus): Promise<void> {
    if (!this.#state) return;
    const ended = Date.parse(this.#lastTime) || now();
    await this.#client.update(this.#state.runId, status, status === 'RUNNING' ? undefined : ended);
  }

  /** Begins the run on the server, if need be. @returns what it is called there */
  async #makeKnown(): Promise<string> {
    const { runId, hasParameters } = this.#state ?? (await this.#begin());
    if (!hasParameters) {
      await this.#client.logParameters(runId, hyperparametersOf(this.#run.config));
      await this.#remember({ hasParameters: true });
    }
    return runId;
  }

  async #begin(): Promise<SentState> {
    const { name, experiment } = this.#run;
    const started = Date.parse(this.#steps[0]?.time ?? '') || now();
    const runId = await this.#client.createRun(await this.#client.experiment(experiment), name, started);
    this.#state = { url: this.#url, runId, hasParameters: false, step: 0, measuredStep: 0 };
    await this.#remember({});
    return this.#state;
  }

  async #remember(changes: Partial<SentState>): Promise<void> {
    this.#state = { ...this.#state!, ...changes };
    await writeFileAtomic(join(this.#run.path, STATE_FILE), `${JSON.stringify(this.#state)}\n`);
  }
}

/** @returns the last step that is left; 0 where none is */
function cutTo(steps: number[], count: number): number {
  steps.length = count;
  return steps.at(-1) ?? 0;
}

function metricsOf(step: number, time: string, scalars: Scalars): MlflowMetric[] {
  const timestamp = Date.parse(time) || now();
  return Object.entries(scalars).map(([key, value]) => ({ key, value, timestamp, step }));
}

/** ms since 1970. */
function now(): number {
  return Math.round(performance.timeOrigin + performance.now());
}

function readState(runPath: string, url: string): SentState | undefined {
  try {
    const state = SentState.parse(JSON.parse(readFileSync(join(runPath, STATE_FILE), 'utf8')));
    return state.url === url ? state : undefined;
  } catch {
    return undefined;
  }
}
