/** Parquet files, a document a row. One row group is held at a time. */

import { SluiceError } from '@sluice/core';
import {
  asyncBufferFromFile,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type SchemaTree,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { RecordOptions } from '../recipe.ts';
import { compressionError, HEAD_BYTES, refusePointer, withoutPackedEnding } from './compression.ts';
import { listed, passOverMissing, recordError, textOfValue, valueAt } from './field.ts';
import type { FolderListing } from './files.ts';
import type { DocumentPart, IntakeCounts, SourceFile, TextSourceReader } from './source.ts';

/** @param column that holds the text; a.b for a field in a column */
export function parquetSource(
  label: string,
  listing: FolderListing,
  column: string,
  options: RecordOptions,
): TextSourceReader {
  return {
    label,
    ...listing,
    async *documents(counts, signal) {
      for (const file of listing.files) yield* rows(file, column, options, counts, signal);
    },
  };
}

async function* rows(
  { path, name }: SourceFile,
  column: string,
  options: RecordOptions,
  counts: IntakeCounts,
  signal: AbortSignal | undefined,
): AsyncGenerator<DocumentPart> {
  if (withoutPackedEnding(path) !== path)
    throw compressionError(path, 'is packed as a whole, while Parquet packs its columns itself; unpack it');
  try {
    const file = await asyncBufferFromFile(path);
    refusePointer(path, Buffer.from(await file.slice(0, Math.min(HEAD_BYTES, file.byteLength))));
    if (file.byteLength < LEAST_BYTES)
      throw recordError(path, `${file.byteLength} bytes are no Parquet file`);
    const metadata = await parquetMetadataAsync(file);
    const top = topColumn(parquetSchema(metadata), column);
    if (top === null) {
      const there = `the file has ${listed(parquetSchema(metadata).children.flatMap(columnNames))}`;
      passOverMissing(column, path, there, options, counts, Number(metadata.num_rows));
      return;
    }
    let rowStart = 0;
    for (const group of metadata.row_groups) {
      signal?.throwIfAborted();
      const rowEnd = rowStart + Number(group.num_rows);
      const records = await parquetReadObjects({
        file,
        metadata,
        compressors: UNPACKERS,
        columns: [top],
        rowStart,
        rowEnd,
        parsers: BYTES_AS_THEY_ARE,
      });
      for (const [i, record] of records.entries()) {
        const row = rowStart + i;
        // The column is there, as the schema says, so that what is not in this row is null.
        const value = valueAt(record, column) ?? null;
        const text = textOfValue(value, column, `${path}: row ${row}`, options, counts);
        if (text !== null) yield { name: `${name}:${row}`, text, last: true };
      }
      rowStart = rowEnd;
    }
  } catch (error) {
    if (error instanceof SluiceError || signal?.aborted) throw error;
    throw recordError(path, (error as Error).message, error);
  }
}

/** Of a file: its marks, and the length of what it says of itself. */
const LEAST_BYTES = 12;

/** A page of nulls alone holds nothing, however it is packed, which the library's LZ4 takes for damage. */
const UNPACKERS = Object.fromEntries(
  Object.entries(compressors).map(([codec, unpack]): [string, typeof unpack] => [
    codec,
    (packed, length) => (length === 0 ? new Uint8Array() : unpack(packed, length)),
  ]),
);

/** Text is decoded where its row is known, so that bytes that are none can be told, and are counted once a row. */
const BYTES_AS_THEY_ARE = {
  stringFromBytes: (bytes: Uint8Array) => bytes,
  jsonFromBytes: (bytes: Uint8Array) => bytes,
};

/** The column of the file that a name or a path in it is in, or null when it has none. */
function topColumn({ children }: SchemaTree, column: string): string | null {
  if (children.some(({ element }) => element.name === column)) return column;
  const path = column.split('.');
  let among = children;
  for (const key of path) {
    const child = among.find(({ element }) => element.name === key);
    if (child === undefined) return null;
    among = child.children;
  }
  return path[0]!;
}

/** The name of a column, and the paths to the fields in it. */
function columnNames({ path, children }: SchemaTree): string[] {
  return children.length === 0 ? [path.join('.')] : children.flatMap(columnNames);
}
