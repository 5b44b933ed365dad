/** `diagnostics.jsonl`: one line each time that a run was measured. A kill at any instant costs at most the last line. */

import { closeSync, createReadStream, existsSync, openSync, statSync, truncateSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { appendWhole, writeError } from '@sluice/core';
import type { Diagnostics } from '@sluice/train';

/** Name of the log in a run's directory. */
export const DIAGNOSTICS_FILE = 'diagnostics.jsonl';

/** What was measured after a step. Where a number was not finite, the line holds null. */
export interface DiagnosticsRecord extends Diagnostics {
  readonly step: number;
}

/**
 * Adds a record, in one write. When it throws, the file is as it was before.
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE
 */
export function appendDiagnostics(path: string, record: DiagnosticsRecord): void {
  const line = Buffer.from(`${JSON.stringify(record, sixDigits)}\n`);
  const file = openToAppend(path);
  try {
    appendWhole(file, path, line);
  } finally {
    closeSync(file);
  }
}

function openToAppend(path: string): number {
  try {
    return openSync(path, 'a');
  } catch (error) {
    throw writeError(path, error);
  }
}

/** Six digits say all there is to see, and keep the lines of deep models short. */
function sixDigits(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) && Number.isFinite(value)
    ? Number(value.toPrecision(6))
    : value;
}

/**
 * Reads the records one after another, in constant memory. Lines that are none, such as one that a kill has torn, are left
 * out; a file that does not exist has no records.
 */
export async function* readDiagnostics(path: string): AsyncGenerator<DiagnosticsRecord> {
  for await (const { record } of linesOf(path)) if (record) yield record;
}

/**
 * Drops every line from the first on whose step is later than `step`, or that a kill has torn.
 * @param keep called with the offset of the first of them, if it is a record, before they are cut
 * @throws SLUICE_E_FILE_UNWRITABLE
 */
export async function truncateDiagnosticsAfter(
  path: string,
  step: number,
  keep?: (start: number) => void,
): Promise<void> {
  if (!existsSync(path)) return;
  let kept = 0;
  let cutsRecord = false;
  for await (const { record, end } of linesOf(path)) {
    cutsRecord = record !== undefined && record.step > step;
    if (!record || cutsRecord) break;
    kept = end;
  }
  if (cutsRecord) keep?.(kept);
  try {
    truncateSync(path, kept);
  } catch (error) {
    throw writeError(path, error);
  }
}

async function* linesOf(
  path: string,
): AsyncGenerator<{ record: DiagnosticsRecord | undefined; end: number }> {
  if (!existsSync(path)) return;
  const { size } = statSync(path);
  const stream = createReadStream(path, 'utf8');
  let end = 0;
  try {
    for await (const text of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      end += Buffer.byteLength(text) + 1;
      // A line without its newline is torn, even where it can be read.
      yield { record: end <= size ? parseDiagnostics(text) : undefined, end };
    }
  } finally {
    stream.destroy();
  }
}

/** The record that a line holds, or undefined when it holds none. */
export function parseDiagnostics(text: string): DiagnosticsRecord | undefined {
  try {
    const value = JSON.parse(text) as DiagnosticsRecord;
    return Number.isSafeInteger(value?.step) && Array.isArray(value.layers) ? value : undefined;
  } catch {
    return undefined;
  }
}
