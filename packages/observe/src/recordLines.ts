/** Logs with one line of JSON for each record, in order of their steps. A kill at any instant costs at most the last line. */

import { closeSync, createReadStream, existsSync, openSync, truncateSync } from 'node:fs';
import { appendWhole, fileError, unreadable, writeError } from '@sluice/core';
import { fileLines } from './fileLines.ts';

/** The record that a line holds, or undefined when it holds none. */
type Parse<Of> = (line: string) => Of | undefined;

/**
 * Adds lines, in one write. When it throws, the file is as it was before.
 * @throws SLUICE_E_DISK_FULL, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_FILE_MISSING (no such directory)
 */
export function appendLines(path: string, lines: readonly string[]): void {
  const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
  const file = openToAppend(path);
  try {
    appendWhole(file, path, bytes);
  } finally {
    closeSync(file);
  }
}

function openToAppend(path: string): number {
  try {
    return openSync(path, 'a');
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
  for await (const { record } of linesOf(path, parse)) if (record) yield record;
}

/**
 * Drops every line from the first on whose step is later than `step`, or that a kill has torn.
 * @param keep called with the offset of the first of them, if it is a record, before they are cut
 * @throws SLUICE_E_FILE_UNWRITABLE; SLUICE_E_FILE_MISSING when it cannot be read
 */
export async function truncateRecordsAfter(
  path: string,
  step: number,
  parse: Parse<{ readonly step: number }>,
  keep?: (start: number) => void,
): Promise<void> {
  if (!existsSync(path)) return;
  let kept = 0;
  let cutsRecord = false;
  for await (const { record, end } of linesOf(path, parse)) {
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

async function* linesOf<Of>(
  path: string,
  parse: Parse<Of>,
): AsyncGenerator<{ record: Of | undefined; end: number }> {
  if (!existsSync(path)) return;
  try {
    for await (const { text, end, isWhole } of fileLines(createReadStream(path))) {
      // A line without its newline is torn, even where it can be read.
      yield { record: isWhole ? parse(text) : undefined, end };
    }
  } catch (error) {
    throw unreadable(path, error);
  }
}
