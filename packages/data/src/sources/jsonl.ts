import { SluiceError } from '@sluice/core';
import { textChunks } from './decode.ts';
import type { SourceFile, TextSourceReader } from './source.ts';

/** Longest line, in characters: a record is held whole. */
const LINE_LENGTH = 1 << 28;

/** Files of one JSON object a line; the text is in a field, `a.b` for a field in a field. */
export function jsonlSource(label: string, files: readonly SourceFile[], field: string): TextSourceReader {
  return {
    label,
    files,
    async *documents() {
      for (const { path, name } of files) {
        let number = 0;
        for await (const line of lines(path)) {
          number++;
          if (line.trim() === '') continue;
          yield { name: `${name}:${number}`, text: textOf(line, field, `${path}:${number}`), last: true };
        }
      }
    },
  };
}

async function* lines(path: string): AsyncGenerator<string> {
  let rest = '';
  let number = 1;
  for await (const chunk of textChunks(path, { encoding: 'utf-8', invalidBytes: 'error' })) {
    const parts = chunk.split('\n');
    parts[0] = rest + parts[0]!;
    rest = parts.pop()!;
    number += parts.length;
    if (rest.length > LINE_LENGTH)
      throw badRecord(`${path}:${number}`, `the line is longer than ${LINE_LENGTH} characters`);
    yield* parts;
  }
  yield rest;
}

function textOf(line: string, field: string, place: string): string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw badRecord(place, (error as Error).message, error);
  }
  const record = value;
  for (const key of field.split('.')) {
    value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  }
  if (typeof value === 'string') return value;
  const fields =
    typeof record === 'object' && record !== null ? Object.keys(record).join(', ') : typeof record;
  throw badRecord(
    place,
    `field ${JSON.stringify(field)} is ${value === undefined ? 'missing' : 'not text'}; the record has ${fields}`,
  );
}

function badRecord(place: string, reason: string, cause?: unknown): SluiceError {
  return new SluiceError('SLUICE_E_DATA_RECORD', `${place}: ${reason}.`, { details: { place }, cause });
}
