import { SluiceError } from '@sluice/core';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { SourceFile, TextSourceReader } from './source.ts';

/** Parquet files, a document a row. One row group is held at a time; null rows are passed over. */
export function parquetSource(label: string, files: readonly SourceFile[], column: string): TextSourceReader {
  return {
    label,
    files,
    async *documents() {
      for (const { path, name } of files) {
        for await (const [row, text] of rows(path, column))
          yield { name: `${name}:${row}`, text, last: true };
      }
    },
  };
}

async function* rows(path: string, column: string): AsyncGenerator<[number, string]> {
  try {
    const file = await asyncBufferFromFile(path);
    const metadata = await parquetMetadataAsync(file);
    const columns = metadata.schema.slice(1).map((element) => element.name);
    if (!columns.includes(column)) {
      throw badFile(path, `there is no column ${JSON.stringify(column)}; the file has ${columns.join(', ')}`);
    }
    let rowStart = 0;
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows);
      const values = await parquetReadObjects({
        file,
        metadata,
        compressors,
        columns: [column],
        rowStart,
        rowEnd,
      });
      for (const [i, value] of values.entries()) {
        const text: unknown = value[column];
        if (text === null || text === undefined) continue;
        if (typeof text !== 'string')
          throw badFile(path, `row ${rowStart + i} of column ${column} is not text`);
        yield [rowStart + i, text];
      }
      rowStart = rowEnd;
    }
  } catch (error) {
    if (error instanceof SluiceError) throw error;
    throw badFile(path, (error as Error).message, error);
  }
}

function badFile(path: string, reason: string, cause?: unknown): SluiceError {
  return new SluiceError('SLUICE_E_DATA_RECORD', `${path}: ${reason}.`, { details: { path }, cause });
}
