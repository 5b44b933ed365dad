/**
 * Logs whose lines are records in order of their steps, read from where they are wanted: those of long runs are gigabytes, which
 * nothing that a run waits for may read from the beginning.
 */

import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';

const NEWLINE = 0x0a;
const CHUNK_BYTES = 1 << 16;

/** The record that a line holds, or undefined when it holds none. */
export type Parse<Of> = (line: string) => Of | undefined;

/** A record, and the offsets at which its line starts and ends, behind the newline. */
export interface PlacedRecord<Of> {
  readonly record: Of;
  readonly start: number;
  readonly end: number;
}

/**
 * The first record of a step later than `step`, found by halving; lines that are no records are passed over.
 * @param file open for reading
 * @returns undefined where no whole line holds one
 */
export function firstAfterStep<Of extends { readonly step: number }>(
  file: number,
  step: number,
  parse: Parse<Of>,
): PlacedRecord<Of> | undefined {
  let first: PlacedRecord<Of> | undefined;
  // No line that ends up to `low` is later; none that starts at `high` or behind it is looked for any more.
  let low = 0;
  let high = fstatSync(file).size;
  for (;;) {
    const middle = endOfLineBefore(file, low + Math.floor((high - low) / 2));
    const found = lastRecordBefore(file, middle, parse, low);
    if (found === undefined) break;
    if (found.record.step <= step) low = middle;
    else {
      first = found;
      high = found.start;
    }
  }
  // What is left has no record in its first half: one line or two, mostly.
  for (;;) {
    const found = lastRecordBefore(file, high, parse, low);
    if (found === undefined || found.record.step <= step) return first;
    first = found;
    high = found.start;
  }
}

/** The last record in a whole line between the offset `start`, where a line starts, and the offset `limit`. */
export function lastRecordBefore<Of>(
  file: number,
  limit: number,
  parse: Parse<Of>,
  start = 0,
): PlacedRecord<Of> | undefined {
  for (let end = endOfLineBefore(file, limit); end > start; ) {
    const line = lineBefore(file, end);
    const record = parse(line.toString('utf8', 0, line.length - 1));
    if (record !== undefined) return { record, start: end - line.length, end };
    end -= line.length;
  }
  return undefined;
}

/** The last record of a log; undefined where it has none, or is not there. */
export function lastRecordIn<Of>(path: string, parse: Parse<Of>): Of | undefined {
  return inFile(path, (file) => lastRecordBefore(file, fstatSync(file).size, parse))?.record;
}

/** What is found in a log; undefined where it is not there. */
export function inFile<T>(path: string, find: (file: number) => T | undefined): T | undefined {
  if (!existsSync(path)) return undefined;
  const file = openSync(path, 'r');
  try {
    return find(file);
  } finally {
    closeSync(file);
  }
}

/** The line that ends at the offset `end`, with its newline; empty at the beginning. */
export function lineBefore(file: number, end: number): Buffer {
  if (end === 0) return Buffer.alloc(0);
  const start = endOfLineBefore(file, end - 1);
  const line = Buffer.alloc(end - start);
  readSync(file, line, 0, line.length, start);
  return line;
}

/** The offset just after the last newline among the first `limit` bytes; 0 when there is none. */
export function endOfLineBefore(file: number, limit: number): number {
  const chunk = Buffer.alloc(CHUNK_BYTES);
  for (let end = limit; end > 0; ) {
    const start = Math.max(0, end - CHUNK_BYTES);
    readSync(file, chunk, 0, end - start, start);
    const newline = chunk.subarray(0, end - start).lastIndexOf(NEWLINE);
    if (newline >= 0) return start + newline + 1;
    end = start;
  }
  return 0;
}
