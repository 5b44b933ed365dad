/** A line for each run: how far it is, and how it goes. From the ends of its files, so that hundreds can be listed. */

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { METRICS_FILE, parseRecord } from '../metricsLog.ts';
import type { StepRecord } from '../record.ts';
import type { RunStatus } from '../report/facts.ts';
import type { WatchedRun } from './catalog.ts';
import { lastLines } from './linesFollower.ts';

/** Of the end of a log; the whole of it is looked at again where this holds no line. */
const TAIL_BYTES = 1 << 16;
const LONGEST_LINE_BYTES = 1 << 22;

export interface ListedRun {
  readonly id: string;
  readonly name: string;
  readonly group: string | null;
  readonly state: RunStatus['state'];
  readonly status: string;
  readonly step: number;
  readonly steps: number | null;
  readonly loss: number | null;
  readonly validationLoss: number | null;
  readonly tokensPerSecond: number | null;
  /** Of a run that goes on, by the rate of its last steps. */
  readonly secondsLeft: number | null;
  readonly spikes: number;
  readonly rollbacks: number;
  /** When its last step had ended; ISO 8601, UTC. */
  readonly updated: string | null;
}

interface Tail {
  readonly key: string;
  readonly records: readonly StepRecord[];
}

export class RunList {
  readonly #tails = new Map<string, Tail>();

  async list(runs: readonly WatchedRun[]): Promise<ListedRun[]> {
    const known = new Set(runs.map(({ path }) => path));
    for (const path of this.#tails.keys()) if (!known.has(path)) this.#tails.delete(path);
    const listed: ListedRun[] = [];
    for (const run of runs) listed.push(describeRun(run, await this.#lastRecords(run.path)));
    return listed;
  }

  async #lastRecords(runPath: string): Promise<readonly StepRecord[]> {
    const path = join(runPath, METRICS_FILE);
    const stat = statSync(path, { throwIfNoEntry: false });
    const key = `${stat?.ino}:${stat?.size}:${stat?.mtimeMs}`;
    const before = this.#tails.get(runPath);
    if (before?.key === key) return before.records;
    let records: StepRecord[] = [];
    for (let bytes = TAIL_BYTES; records.length < 2 && bytes <= LONGEST_LINE_BYTES; bytes *= 8) {
      records = (await lastLines(path, bytes)).flatMap((line) => parseRecord(line) ?? []);
      if (bytes >= (stat?.size ?? 0)) break;
    }
    this.#tails.set(runPath, { key, records });
    return records;
  }
}

function describeRun(run: WatchedRun, records: readonly StepRecord[]): ListedRun {
  const { status, steps, spikes, rollbacks, validationLoss } = run.brief();
  const last = records.at(-1);
  const step = last?.step ?? 0;
  const finite = (value: number | undefined) =>
    value !== undefined && Number.isFinite(value) ? Number(value.toPrecision(6)) : null;
  const secondsAStep = secondsOf(records);
  const isGoing = status.state === 'running' && steps !== undefined && secondsAStep !== undefined;
  return {
    ...{ id: run.id, name: run.name, group: run.group ?? null, state: status.state, status: status.text },
    ...{ step, steps: steps ?? null, spikes, rollbacks },
    loss: finite(meanLoss(records)),
    validationLoss: finite(validationLoss),
    tokensPerSecond: finite(last?.tokensPerSecond),
    secondsLeft: isGoing ? finite((steps - step) * secondsAStep) : null,
    // What is no time would end the page's script.
    updated: Number.isNaN(Date.parse(last?.time ?? '')) ? null : last!.time,
  };
}

/** Of the last steps, as one of them is noisy. */
function meanLoss(records: readonly StepRecord[]): number | undefined {
  const losses = records.slice(-10).flatMap(({ loss }) => (Number.isFinite(loss) ? [loss] : []));
  return losses.length === 0 ? undefined : losses.reduce((a, b) => a + b, 0) / losses.length;
}

/** From step to step by the clock, with all that came between. */
function secondsOf(records: readonly StepRecord[]): number | undefined {
  const [first, last] = [records[0], records.at(-1)];
  if (first === undefined || last === undefined || last.step <= first.step) return undefined;
  const seconds = (Date.parse(last.time) - Date.parse(first.time)) / 1000 / (last.step - first.step);
  return Number.isFinite(seconds) ? seconds : undefined;
}
