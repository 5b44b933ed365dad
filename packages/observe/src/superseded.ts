/**
 * What the logs said of steps that a resumed run takes again: moved out of the logs, whose steps ascend, into numbered files
 * beside them, `superseded/metrics-001.jsonl`, `superseded/diagnostics-001.jsonl` and `superseded/samples-001.jsonl`. Nothing that was
 * measured is lost.
 */

import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeDirectories, TEMPORARY_PREFIX, writeError } from '@sluice/core';
import { DIAGNOSTICS_FILE, parseDiagnostics } from './diagnosticsLog.ts';
import { firstMetrics, lastMetrics, METRICS_FILE, MetricsLog, metricsOf } from './metricsLog.ts';
import type { StepRecord } from './record.ts';
import { truncateRecordsAfter } from './recordLines.ts';
import { parseSample, SAMPLES_FILE } from './samplesLog.ts';

/** Name of the folder in a run's directory. */
const SUPERSEDED_FOLDER = 'superseded';

const NUMBERED = /^(metrics|diagnostics|samples)-(\d+)\.jsonl$/;
const CHUNK_BYTES = 1 << 20;

/** Steps that were taken, and taken again later. */
export interface SupersededSteps {
  /** Relative to the run's directory. */
  readonly file: string;
  readonly first: number;
  readonly last: number;
}

/**
 * Moves what a run's logs say of steps after `step` aside. A kill in the middle leaves it in the logs, or in both places.
 * @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL, SLUICE_E_FILE_MISSING (no such run), SLUICE_E_METRICS_DAMAGED
 */
export function supersedeAfter(runDirectory: string, step: number): void {
  const number = 1 + Math.max(0, ...numberedFiles(runDirectory).map((file) => file.number));
  const aside = (kind: string) =>
    join(runDirectory, SUPERSEDED_FOLDER, `${kind}-${String(number).padStart(3, '0')}.jsonl`);
  const metricsPath = join(runDirectory, METRICS_FILE);
  const metrics = MetricsLog.open(metricsPath);
  try {
    metrics.truncateAfter(step, (start) => copyTail(metricsPath, start, aside('metrics')));
  } finally {
    metrics.close();
  }
  for (const [kind, file, parse] of [
    ['diagnostics', DIAGNOSTICS_FILE, parseDiagnostics],
    ['samples', SAMPLES_FILE, parseSample],
  ] as const) {
    const path = join(runDirectory, file);
    truncateRecordsAfter(path, step, parse, (start) => copyTail(path, start, aside(kind)));
  }
}

/** The stretches of steps that were superseded, oldest first. */
export function supersededSteps(runDirectory: string): SupersededSteps[] {
  const stretches: SupersededSteps[] = [];
  for (const { file, kind } of numberedFiles(runDirectory)) {
    if (kind !== 'metrics') continue;
    const path = join(runDirectory, file);
    const [first, last] = [firstMetrics(path), lastMetrics(path)];
    if (first && last) stretches.push({ file, first: first.step, last: last.step });
  }
  return stretches;
}

/** What superseded logs say of one step, oldest first. */
export function supersededRecords(
  runDirectory: string,
  step: number,
): { readonly file: string; readonly record: StepRecord }[] {
  const found: { file: string; record: StepRecord }[] = [];
  for (const { file, kind } of numberedFiles(runDirectory)) {
    if (kind !== 'metrics') continue;
    const record = metricsOf(join(runDirectory, file), step);
    if (record) found.push({ file, record });
  }
  return found;
}

/** Names of the files of superseded steps, which never change once they are there. */
export function supersededFiles(runDirectory: string): string[] {
  return numberedFiles(runDirectory).map(({ file }) => file);
}

function numberedFiles(runDirectory: string): { file: string; kind: string; number: number }[] {
  const files = namesIn(join(runDirectory, SUPERSEDED_FOLDER)).flatMap((name) => {
    const match = NUMBERED.exec(name);
    return match ? [{ file: join(SUPERSEDED_FOLDER, name), kind: match[1]!, number: Number(match[2]) }] : [];
  });
  return files.sort((a, b) => a.number - b.number);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Copies a file from byte `start` on; the copy gets its name when it is whole and on the disk. */
function copyTail(path: string, start: number, target: string): void {
  const folder = join(target, '..');
  const partial = join(folder, `${TEMPORARY_PREFIX}${process.pid}`);
  let output: number | undefined;
  let input: number | undefined;
  try {
    makeDirectories(folder);
    rmSync(partial, { force: true });
    input = openSync(path, 'r');
    output = openSync(partial, 'wx');
    const chunk = Buffer.alloc(CHUNK_BYTES);
    let position = start;
    for (let length = readSync(input, chunk, 0, CHUNK_BYTES, position); length > 0; ) {
      for (let done = 0; done < length; ) done += writeSync(output, chunk, done, length - done);
      position += length;
      length = readSync(input, chunk, 0, CHUNK_BYTES, position);
    }
    fsyncSync(output);
    renameSync(partial, target);
  } catch (error) {
    rmSync(partial, { force: true });
    throw writeError(target, error);
  } finally {
    if (input !== undefined) closeSync(input);
    if (output !== undefined) closeSync(output);
  }
}
