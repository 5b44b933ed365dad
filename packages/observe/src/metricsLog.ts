/** `metrics.jsonl`: one line a step. A kill at any instant costs at most the line that was being written. */

import {
  closeSync,
  createReadStream,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  statSync,
} from 'node:fs';
import { appendWhole, fileError, invariant, SluiceError, writeError } from '@sluice/core';
import { fileLines, readChunks } from './fileLines.ts';
import { type RecordedUpdate, STEP_PARTS, type StepRecord, type StepSeconds } from './record.ts';
import {
  endOfLineBefore,
  firstAfterStep,
  inFile,
  lastRecordBefore,
  lastRecordIn,
  lineBefore,
} from './stepLines.ts';

/** Name of the log in a run's directory. */
export const METRICS_FILE = 'metrics.jsonl';

/**
 * The log of a run, open for appending. Steps ascend; to take some back (a resumed run starts from a checkpoint
 * that is older than the last line), call `truncateAfter`.
 */
export class MetricsLog {
  readonly path: string;
  #file: number;
  #lastStep: number;

  private constructor(path: string, file: number) {
    this.path = path;
    this.#file = file;
    this.#lastStep = 0;
  }

  /**
   * Opens the log, or makes an empty one. Last lines that were torn by a kill or a power cut are cut off: nothing forces the log to
   * the disk, and its blocks may reach it in any order, so such a line may have its newline and yet a hole, which reads as zeros.
   * @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL, SLUICE_E_FILE_MISSING (no such directory), SLUICE_E_METRICS_DAMAGED (the
   *   last line without a hole is not a record)
   */
  static open(path: string): MetricsLog {
    let log: MetricsLog | undefined;
    try {
      log = new MetricsLog(path, openSync(path, 'a+'));
      log.#recover();
      return log;
    } catch (error) {
      log?.close();
      throw fileError(path, error);
    }
  }

  /** The step of the last line; 0 for an empty log. */
  get lastStep(): number {
    return this.#lastStep;
  }

  /**
   * Adds the record of a step, later than all before, in one write. When it throws, the file is as it was before.
   * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
   */
  append(record: StepRecord): void {
    invariant(
      record.step > this.#lastStep,
      `step ${record.step} is logged after step ${this.#lastStep}; truncateAfter comes first`,
    );
    const line = Buffer.from(`${serializeRecord(record)}\n`);
    appendWhole(this.#file, this.path, line);
    this.#lastStep = record.step;
  }

  /**
   * Drops every line of a step later than `step`. Steps ascend, so these are the end of the file: cutting it there is
   * one atomic operation of the file system.
   * @param keep called with the offset of the first of these lines before they are cut
   */
  truncateAfter(step: number, keep?: (start: number) => void): void {
    if (this.#lastStep <= step) return;
    const { start } = firstAfterStep(this.#file, step, parseRecord)!;
    keep?.(start);
    try {
      ftruncateSync(this.#file, start);
    } catch (error) {
      throw writeError(this.path, error);
    }
    this.#lastStep = lastRecordBefore(this.#file, start, parseRecord)?.record.step ?? 0;
  }

  close(): void {
    if (this.#file < 0) return;
    closeSync(this.#file);
    this.#file = -1;
  }

  #recover(): void {
    const size = fstatSync(this.#file).size;
    let end = endOfLineBefore(this.#file, size);
    let line = lineBefore(this.#file, end);
    while (line.includes(0)) {
      end -= line.length;
      line = lineBefore(this.#file, end);
    }
    if (end > 0) {
      const text = line.toString().trimEnd();
      const record = parseRecord(text);
      if (record === undefined) throw damaged(this.path, text);
      this.#lastStep = record.step;
    }
    if (end < size) ftruncateSync(this.#file, end);
  }
}

/** How `readMetrics` treats what it finds. */
export interface ReadMetricsOptions {
  /** Told of a line that is not a record, which is then left out; without it such a line is an error. */
  readonly onDamaged?: (lineNumber: number, text: string) => void;
  /** The step behind which to begin; lines are then counted from there. */
  readonly after?: number;
  /** Told how much of the log has been read, of how much there was at first, bytes. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/**
 * Reads the records of a log one after another, in constant memory, also while the run appends to it. A torn last
 * line is left out; a file that does not exist has no records.
 * @throws SLUICE_E_METRICS_DAMAGED for another line that is no record, unless `onDamaged` is given; SLUICE_E_FILE_MISSING when the
 *   log cannot be read
 */
export async function* readMetrics(
  path: string,
  { onDamaged, after = 0, onProgress }: ReadMetricsOptions = {},
): AsyncGenerator<StepRecord> {
  if (!existsSync(path)) return;
  const start = after > 0 ? inFile(path, (file) => firstAfterStep(file, after, parseRecord))?.start : 0;
  if (start === undefined) return;
  let lineNumber = 0;
  // Whether a bad line is the last, and thus only torn, shows with the line after it.
  let suspect: { lineNumber: number; text: string } | undefined;
  const stream = createReadStream(path, { start });
  const total = onProgress ? statSync(path).size : 0;
  let told = 0;
  for await (const { text } of fileLines(readChunks(stream))) {
    lineNumber++;
    if (onProgress && stream.bytesRead > told) {
      told = stream.bytesRead;
      onProgress(Math.min(start + told, total), total);
    }
    if (suspect !== undefined) {
      if (!onDamaged) throw damaged(path, suspect.text, { after, lineNumber: suspect.lineNumber });
      onDamaged(suspect.lineNumber, suspect.text);
      suspect = undefined;
    }
    const record = parseRecord(text);
    if (record === undefined) suspect = { lineNumber, text };
    else yield record;
  }
}

/** The record of a step, found without reading the others; undefined where the log has none. */
export function metricsOf(path: string, step: number): StepRecord | undefined {
  const record = firstMetrics(path, step - 1);
  return record?.step === step ? record : undefined;
}

/** The first record behind a step, or of all; undefined where the log has none. */
export function firstMetrics(path: string, after = 0): StepRecord | undefined {
  return inFile(path, (file) => firstAfterStep(file, after, parseRecord))?.record;
}

/** The last record of a log; undefined where it has none. */
export function lastMetrics(path: string): StepRecord | undefined {
  return lastRecordIn(path, parseRecord);
}

function damaged(
  path: string,
  text: string,
  counted?: { readonly after: number; readonly lineNumber: number },
): SluiceError {
  const behind = counted && counted.after > 0 ? ` behind step ${counted.after}` : '';
  const place = counted ? `Line ${counted.lineNumber}${behind}` : 'The last line';
  const excerpt = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return new SluiceError(
    'SLUICE_E_METRICS_DAMAGED',
    `${place} of ${path} is no record of a step: ${JSON.stringify(excerpt)}`,
    { details: { path, ...counted } },
  );
}

function serializeRecord(record: StepRecord): string {
  // Four digits of these say all there is to see and keep the lines of models with many experts short.
  const short = (value: number) => Number(value.toPrecision(4));
  const expertLoad = record.expertLoad?.map((layer) => layer.map(short));
  const shortened = (values: Readonly<Record<string, number>>) =>
    Object.fromEntries(Object.entries(values).map(([group, value]) => [group, short(value)]));
  const { groupNorms = {}, lastUpdate } = record;
  return JSON.stringify({
    ...record,
    ...(expertLoad && { expertLoad }),
    ...(Object.keys(groupNorms).length > 0 && { groupNorms: shortened(groupNorms) }),
    ...(lastUpdate && {
      lastUpdate: { overall: short(lastUpdate.overall), groups: shortened(lastUpdate.groups) },
    }),
  });
}

/** The record that a line holds, or undefined when it holds none. */
export function parseRecord(line: string): StepRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (!isObject(value)) return undefined;
  const raw = value;
  if (!Number.isSafeInteger(raw.step) || (raw.step as number) < 1) return undefined;
  const seconds = isObject(raw.seconds) ? raw.seconds : {};
  return {
    ...raw,
    step: raw.step as number,
    time: typeof raw.time === 'string' ? raw.time : '',
    loss: number(raw.loss),
    auxiliaryLoss: number(raw.auxiliaryLoss),
    ...(raw.validationLoss === undefined ? {} : { validationLoss: number(raw.validationLoss) }),
    ...(isObject(raw.validationLosses) && { validationLosses: numbers(raw.validationLosses) }),
    gradientNorm: number(raw.gradientNorm),
    ...(isObject(raw.groupNorms) && { groupNorms: numbers(raw.groupNorms) }),
    ...(isObject(raw.lastUpdate) && { lastUpdate: updateIn(raw.lastUpdate) }),
    ...(raw.largestAttentionLogit === undefined
      ? {}
      : { largestAttentionLogit: number(raw.largestAttentionLogit) }),
    applied: raw.applied !== false,
    learningRate: number(raw.learningRate),
    tokens: number(raw.tokens),
    tokensPerSecond: number(raw.tokensPerSecond),
    seconds: Object.fromEntries(
      ['total', ...STEP_PARTS].map((part) => [part, number(seconds[part])]),
    ) as StepSeconds,
    peakMemoryBytes: number(raw.peakMemoryBytes),
  };
}

function updateIn({ overall, groups }: Record<string, unknown>): RecordedUpdate {
  return { overall: number(overall), groups: isObject(groups) ? numbers(groups) : {} };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function numbers(values: Record<string, unknown>): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, number(value)]));
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : Number.NaN;
}
