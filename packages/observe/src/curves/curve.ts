/** Reading curves that somebody recorded, in whichever format. */

import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { readMetrics } from '../metricsLog.ts';
import type { StepRecord } from '../record.ts';
import { readCsvCurve } from './csv.ts';
import { EVENT_FILE, readEventCurve } from './events.ts';
import type { WantedNames } from './names.ts';
import type { CurvePoint, CurveReader, RecordedCurve } from './recordedCurve.ts';
import { RECORD_HEADER_BYTES, startsRecord } from './tfRecord.ts';

/**
 * Reads a curve from a CSV file, a `metrics.jsonl`, a TensorBoard event file, or a directory of these last.
 * @param wanted columns or tags to take; those that are usual when left out
 * @returns what was taken, once all points have been handed out
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_CURVE_INVALID (with file and line), SLUICE_E_CURVE_NAME, SLUICE_E_CURVE_DAMAGED,
 *   SLUICE_E_METRICS_DAMAGED
 */
export async function readCurve(
  path: string,
  wanted: WantedNames,
  { onPoint, onProgress }: CurveReader,
): Promise<RecordedCurve> {
  let points = 0;
  const counting = (point: CurvePoint) => {
    points++;
    onPoint(point);
  };
  const curve = await readWhole(path, wanted, { onPoint: counting, onProgress });
  if (points > 0) return curve;
  throw new SluiceError('SLUICE_E_CURVE_INVALID', `${path} holds no point of a curve.`, {
    details: { path },
  });
}

function readWhole(path: string, wanted: WantedNames, reader: CurveReader): Promise<RecordedCurve> {
  if (isDirectory(path)) return readEventCurve(eventFilesIn(path), path, wanted, reader);
  const head = headOf(path);
  if (EVENT_FILE.test(path) || startsRecord(head)) return readEventCurve([path], path, wanted, reader);
  const isJson = /\.(jsonl|ndjson)$/i.test(path) || head.toString('latin1').trimStart().startsWith('{');
  return isJson ? readMetricsCurve(path, wanted, reader) : readCsvCurve(path, wanted, reader);
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (error) {
    throw missing(path, error);
  }
}

function headOf(path: string): Buffer {
  const head = Buffer.alloc(RECORD_HEADER_BYTES);
  try {
    const file = openSync(path, 'r');
    try {
      return head.subarray(0, readSync(file, head, 0, head.length, 0));
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw missing(path, error);
  }
}

function missing(path: string, error: unknown): SluiceError {
  const { code } = error as NodeJS.ErrnoException;
  const what =
    code === 'ENOENT' || code === 'ENOTDIR' ? `There is no ${path}.` : `${path} cannot be read (${code}).`;
  return new SluiceError('SLUICE_E_FILE_MISSING', what, { details: { path }, cause: error });
}

/** The event files of a directory, oldest first: their names begin with the time at which they were begun. */
function eventFilesIn(directory: string): string[] {
  const entries = readdirSync(directory, { withFileTypes: true });
  const files = entries.filter((entry) => EVENT_FILE.test(entry.name)).map(({ name }) => name);
  if (files.length > 0) return files.sort().map((name) => join(directory, name));
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(directory, name));
  const further = folders.filter((folder) => readdirSync(folder).some((name) => EVENT_FILE.test(name)));
  const hint = further.length === 0 ? '' : ` There are some in ${further.join(', ')}: name one of these.`;
  throw new SluiceError(
    'SLUICE_E_CURVE_INVALID',
    `${directory} is no run, and holds no TensorBoard event files (events.out.tfevents.…).${hint}`,
    { details: { path: directory, further } },
  );
}

/** A run's own log. A norm was not recorded before the first step that has a finite one. */
async function readMetricsCurve(
  path: string,
  wanted: WantedNames,
  { onPoint, onProgress }: CurveReader,
): Promise<RecordedCurve> {
  if (wanted.loss !== undefined || wanted.norm !== undefined) {
    throw new SluiceError(
      'SLUICE_E_CURVE_NAME',
      `${path} is a log of metrics, whose loss and gradientNorm are taken; a column or tag cannot be chosen.`,
      { details: { path, ...wanted } },
    );
  }
  let hasLoss = false;
  let hasNorm = false;
  let last: StepRecord | undefined;
  for await (const record of readMetrics(path, { onProgress })) {
    const { step, loss, gradientNorm, groupNorms, lastUpdate } = record;
    const follows = last?.step === step - 1;
    hasLoss ||= Number.isFinite(loss);
    hasNorm ||= Number.isFinite(gradientNorm);
    onPoint({
      ...{ step, loss, gradientNorm: hasNorm ? gradientNorm : undefined, groupNorms },
      lastUpdate: lastUpdate && follows ? { ...lastUpdate, learningRate: last!.learningRate } : undefined,
    });
    last = record;
  }
  if (last && !hasLoss) {
    throw new SluiceError('SLUICE_E_CURVE_INVALID', `${path} has no step with a loss that is a number.`, {
      details: { path },
    });
  }
  return { lossName: 'loss', normName: hasNorm ? 'gradientNorm' : null, remarks: [] };
}
