/** `diagnostics.jsonl`: one line each time that a run was measured. */

import type { Diagnostics } from '@sluice/train';
import { appendLines, readRecords } from './recordLines.ts';

/** Name of the log in a run's directory. */
export const DIAGNOSTICS_FILE = 'diagnostics.jsonl';

/** What was measured after a step. Where a number was not finite, the line holds null. */
export interface DiagnosticsRecord extends Diagnostics {
  readonly step: number;
}

/** As `appendLines`. */
export function appendDiagnostics(path: string, record: DiagnosticsRecord): void {
  appendLines(path, [JSON.stringify(record, sixDigits)]);
}

/** Six digits say all there is to see, and keep the lines of deep models short. */
function sixDigits(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) && Number.isFinite(value)
    ? Number(value.toPrecision(6))
    : value;
}

/** As `readRecords`. */
export function readDiagnostics(path: string): AsyncGenerator<DiagnosticsRecord> {
  return readRecords(path, parseDiagnostics);
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
