/** Flat tables for spreadsheets and data frames, as CSV and as Parquet: the same columns, the same bytes of the same items. */

import { ByteWriter, ParquetWriter, schemaFromColumnData } from 'hyparquet-writer';

export type Cell = string | number | null;

/** A column: `whole` numbers are 64 bits in Parquet, `real` ones double precision. */
export interface TableColumn<T> {
  readonly name: string;
  readonly type: 'text' | 'whole' | 'real';
  readonly value: (item: T) => Cell;
}

export function csvHeader<T>(columns: readonly TableColumn<T>[]): string {
  return `${columns.map(({ name }) => csvCell(name)).join(',')}\n`;
}

export function csvLines<T>(columns: readonly TableColumn<T>[], items: readonly T[]): string {
  return items.map((item) => `${columns.map(({ value }) => csvCell(value(item))).join(',')}\n`).join('');
}

/** As RFC 4180 has it: quoted where the text would otherwise end the cell. What is unknown is empty, a text of nothing is quoted. */
function csvCell(cell: Cell): string {
  if (cell === null) return '';
  if (typeof cell === 'number') return String(cell);
  return cell === '' || /[",\r\n]/.test(cell) || cell.trim() !== cell
    ? `"${cell.replaceAll('"', '""')}"`
    : cell;
}

const PARQUET_TYPES = { text: 'STRING', whole: 'INT64', real: 'DOUBLE' } as const;

/** The bytes of a Parquet file, as far as they are known after each group of rows: those are all that is held. */
export class ParquetParts<T> {
  readonly #columns: readonly TableColumn<T>[];
  readonly #bytes = new ByteWriter();
  readonly #writer: ParquetWriter;

  constructor(columns: readonly TableColumn<T>[]) {
    this.#columns = columns;
    const schema = schemaFromColumnData({ columnData: this.#dataOf([]) });
    this.#writer = new ParquetWriter({ writer: this.#bytes, schema });
  }

  /** @param items the rows of a group, one at least @returns what they add to the file */
  add(items: readonly T[]): Uint8Array {
    // The types are in the schema.
    const columnData = this.#dataOf(items).map(({ name, data }) => ({ name, data }));
    this.#writer.write({ columnData, rowGroupSize: items.length });
    return this.#taken();
  }

  /** What ends the file. */
  end(): Uint8Array {
    this.#writer.finish();
    return this.#taken();
  }

  #dataOf(items: readonly T[]) {
    return this.#columns.map(({ name, type, value }) => ({
      ...{ name, nullable: true, type: PARQUET_TYPES[type] },
      data: items.map((item) => {
        const cell = value(item);
        return type === 'whole' && cell !== null ? BigInt(cell) : cell;
      }),
    }));
  }

  #taken(): Uint8Array {
    const bytes = this.#bytes.getBytes().slice();
    this.#bytes.index = 0;
    return bytes;
  }
}
