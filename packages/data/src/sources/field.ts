/** The text of a record, by one rule for JSON lines and Parquet. */

import { SluiceError } from '@sluice/core';
import type { RecordOptions } from '../recipe.ts';
import { decodeUtf8, encodingError } from './decode.ts';
import type { IntakeCounts } from './source.ts';

/**
 * The text in a field of a record. A key of that very name is taken; else the dots of the name lead into objects.
 * @param field name of the field: `text`, or `meta.text`
 * @param place of the record, for messages
 * @returns null for a record that is to be passed over, which is counted
 * @throws SluiceError SLUICE_E_DATA_RECORD for what is no text, and where the options ask for it;
 *   SLUICE_E_DATA_ENCODING for bytes that are no UTF-8
 */
export function textOf(
  record: unknown,
  field: string,
  place: string,
  options: RecordOptions,
  counts: IntakeCounts,
): string | null {
  if (!isObject(record)) {
    throw recordError(place, `the record is ${describe(record)}, and no object with fields`);
  }
  const value = valueAt(record, field);
  if (value === undefined) {
    passOverMissing(field, place, `the record has ${listed(Object.keys(record))}`, options, counts);
    return null;
  }
  return textOfValue(value, field, place, options, counts);
}

/** As `textOf`, with the value that was found in the field. */
export function textOfValue(
  value: unknown,
  field: string,
  place: string,
  { nulls, invalidBytes }: RecordOptions,
  counts: IntakeCounts,
): string | null {
  const name = JSON.stringify(field);
  if (typeof value === 'string') return value;
  if (value instanceof Uint8Array) {
    const text = decodeUtf8(value, invalidBytes, counts);
    if (text === null) throw encodingError(place, `holds bytes in ${name} that are not utf-8`);
    return text;
  }
  if (value !== null) throw recordError(place, `field ${name} is ${describe(value)}, and not text`);
  if (nulls === 'error') throw recordError(place, `field ${name} is null, and the recipe says nulls: error`);
  counts.nullRecords++;
  return null;
}

/**
 * Counts records without the field, where that is allowed.
 * @param there tells which fields there are
 * @throws SluiceError SLUICE_E_DATA_RECORD
 */
export function passOverMissing(
  field: string,
  place: string,
  there: string,
  { missing }: RecordOptions,
  counts: IntakeCounts,
  records = 1,
): void {
  if (missing === 'error') {
    throw recordError(
      place,
      `field ${JSON.stringify(field)} is missing; ${there} (missing: skip passes over such records)`,
    );
  }
  counts.missingRecords += records;
}

/** The value at a name or path; null where something on the way is null, undefined where it is not there. */
export function valueAt(record: Readonly<Record<string, unknown>>, field: string): unknown {
  if (Object.hasOwn(record, field)) return record[field];
  let value: unknown = record;
  for (const key of field.split('.')) {
    if (value === null) return null;
    if (!isObject(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

/** Names, one after another. */
export function listed(names: readonly string[]): string {
  return names.length === 0 ? 'no fields' : names.join(', ');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) {
    if (value.length === 0) return 'an empty list';
    const keys = isObject(value[0]) ? Object.keys(value[0]) : [];
    const isChat =
      (keys.includes('role') && keys.includes('content')) ||
      (keys.includes('from') && keys.includes('value'));
    if (isChat) return 'a list of chat messages (write them as text first, by the template of the model)';
    return `a list (its first item is ${describe(value[0])})`;
  }
  if (typeof value === 'string' || value instanceof Uint8Array) return 'text';
  if (typeof value === 'number' || typeof value === 'bigint') return `the number ${value}`;
  if (typeof value === 'boolean') return String(value);
  if (isObject(value)) {
    const keys = Object.keys(value);
    return keys.length === 0 ? 'an empty object' : `an object with the fields ${keys.join(', ')}`;
  }
  return `of type ${typeof value}`;
}

export function recordError(place: string, reason: string, cause?: unknown): SluiceError {
  return new SluiceError('SLUICE_E_DATA_RECORD', `${place}: ${reason}.`, { details: { place }, cause });
}
