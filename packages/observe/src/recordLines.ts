/** Logs with one line of JSON for each record, in order of their steps. A kill at any instant costs at most the last line. */

import { closeSync, createReadStream, existsSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import { appendWhole, fileError, writeError } from '@sluice/core';
import { fileLines, readChunks } from './fileLines.ts';
import { firstAfterStep, lastRecordBefore, type Parse } from './stepLines.ts';

/**
 * Adds lines, in one write. When it throws, the file is as it was before.
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_FILE_MISSING (no such directory)
 */
export function appendLines(path: string, lines: readonly string[]): void {
  const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
  const file = openFile(path, 'a');
  try {
    appendWhole(file, path, bytes);
  } finally {
    closeSync(file);
  }
}

function openFile(path: string, flags: 'a' | 'r+'): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    throw fileError(path, error);
  }
}

/**
 * Reads the records one after another, in constant memory. Lines that are none, such as one that a kill has torn, are left
 * out; a file that does not exist has no records.
 * @throws SLUICE_E_FILE_MISSING when it cannot be read
 */
export async function* readRecords<Of>(path: string, parse: Parse<Of>): AsyncGenerator<Of> {
  if (!existsSync(path)) return;
  for await (const { text, isWhole } of fileLines(readChunks(createReadStream(path)))) {
    // A line without its newline is torn, even where it can be read.
    const record = isWhole ? parse(text) : undefined;
    if (record !== undefined) yield record;
  }
}

/**
 * Drops every line from the first on whose step is later than `step`, and those at the end that a kill has torn.
 * @param keep called with the offset of the first line whose step is later, where there is one, before it is cut
 * @throws SLUICE_E_FILE_UNWRITABLE
 */
export function truncateRecordsAfter(
  path: string,
  step: number,
  parse: Parse<{ readonly step: number }>,
  keep?: (start: number) => void,
): void {
  if (!existsSync(path)) return;
  const file = openFile(path, 'r+');
  try {
    const later = firstAfterStep(file, step, parse);
    if (later) keep?.(later.start);
    const whole = lastRecordBefore(file, later?.start ?? fstatSync(file).size, parse);
    ftruncateSync(file, later?.start ?? whole?.end ?? 0);
  } catch (error) {
    throw writeError(path, error);
  } finally {
    closeSync(file);
  }
}
