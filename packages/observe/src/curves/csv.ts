/** Curves in CSV files, such as those that TensorBoard and Weights & Biases export: columns are found by their names. */

import { statSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { readTextParts, SluiceError } from '@sluice/core';
import { CsvError, parse } from 'csv-parse';
import { counted } from '../format.ts';
import { chooseName, type WantedNames } from './names.ts';
import type { CurveReader, RecordedCurve } from './recordedCurve.ts';

/** What may stand between cells; the first that the header has. */
const DELIMITERS = [',', '\t', ';'];

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const NON_FINITE: Readonly<Record<string, number>> = {
  nan: Number.NaN,
  inf: Number.POSITIVE_INFINITY,
  infinity: Number.POSITIVE_INFINITY,
  '-inf': Number.NEGATIVE_INFINITY,
  '-infinity': Number.NEGATIVE_INFINITY,
};

interface Row {
  readonly cells: readonly string[];
  readonly line: number;
}

/**
 * Reads the columns of the step, the loss and, where there is one, the gradient norm. Lines without a loss are passed over, with
 * a remark: trainers do not record everything at each step.
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_DATA_ENCODING, SLUICE_E_CURVE_NAME, SLUICE_E_CURVE_INVALID
 */
export async function readCsvCurve(
  path: string,
  wanted: WantedNames,
  { onPoint, onProgress }: CurveReader,
): Promise<RecordedCurve> {
  let columns: Columns | undefined;
  let before: number | undefined;
  let [lines, withoutLoss] = [0, 0];
  for await (const { cells, line } of rowsOf(path, onProgress)) {
    if (!columns) {
      columns = columnsOf(cells, wanted, `${path}:${line}`);
      continue;
    }
    lines++;
    if (cells.length !== columns.count) {
      const header = counted(columns.count, 'column');
      throw invalid(path, line, `${counted(cells.length, 'cell')}, but the header has ${header}`);
    }
    const { step: stepAt, loss: lossAt, norm: normAt } = columns;
    const read = ({ name, at }: Column) => numberIn(cells[at]!) ?? refuseCell(path, line, name, cells[at]!);
    const step = read(stepAt);
    if (!Number.isSafeInteger(step) || step < 0) {
      throw invalid(path, line, `the step ${JSON.stringify(cells[stepAt.at])} is no whole number from 0 on`);
    }
    if (before !== undefined && step <= before) {
      throw invalid(path, line, `step ${step} comes after step ${before}; steps must ascend`);
    }
    if (cells[lossAt.at] === '') {
      withoutLoss++;
      continue;
    }
    before = step;
    const gradientNorm = normAt && cells[normAt.at] !== '' ? read(normAt) : undefined;
    onPoint({ step, loss: read(lossAt), gradientNorm });
  }
  if (!columns) throw invalid(path, 1, 'an empty file has no header of columns');
  const remarks = withoutLoss === 0 ? [] : [`${withoutLoss} of ${lines} lines have no loss: passed over`];
  return { lossName: columns.loss.name, normName: columns.norm?.name ?? null, remarks };
}

interface Column {
  readonly name: string;
  readonly at: number;
}

interface Columns {
  readonly count: number;
  readonly step: Column;
  readonly loss: Column;
  readonly norm: Column | undefined;
}

/** @param place file and line of the header */
function columnsOf(names: readonly string[], wanted: WantedNames, place: string): Columns {
  const choose = (kind: 'step' | 'loss' | 'norm', chosen?: string) => {
    const name = chooseName(kind, names, chosen, place, 'column');
    return name === undefined ? undefined : { name, at: names.indexOf(name) };
  };
  const [step, loss] = [choose('step')!, choose('loss', wanted.loss)!];
  return { count: names.length, step, loss, norm: choose('norm', wanted.norm) };
}

async function* rowsOf(path: string, onProgress: CurveReader['onProgress']): AsyncGenerator<Row> {
  const total = onProgress ? statSync(path).size : 0;
  const texts = readTextParts(path, (bytes) => onProgress?.(Math.min(bytes, total), total));
  const first = (await texts.next()).value ?? '';
  const header = first.trimStart().split('\n', 1)[0]!;
  const delimiter = DELIMITERS.find((character) => header.includes(character)) ?? ',';
  // A cell of blanks would be one more, and a header with nothing between has one column.
  const options = { delimiter, trim: true, skip_empty_lines: true, relax_column_count: true, info: true };
  const parser = parse(options);
  const whole = async function* () {
    yield first;
    yield* texts;
  };
  const reading = pipeline(Readable.from(whole()), parser);
  // Its failure is also that of the rows.
  reading.catch(() => undefined);
  try {
    for await (const { record, info } of parser as AsyncIterable<{
      record: string[];
      info: { lines: number };
    }>) {
      yield { cells: record, line: info.lines };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw invalid(path, Number(error.lines ?? 1), error.message);
  }
}

function numberIn(cell: string): number | undefined {
  if (NUMBER.test(cell)) return Number(cell);
  return NON_FINITE[cell.toLowerCase()];
}

function refuseCell(path: string, line: number, name: string, cell: string): never {
  throw invalid(path, line, `${JSON.stringify(cell)} in the column ${JSON.stringify(name)} is no number`);
}

function invalid(path: string, line: number, what: string): SluiceError {
  return new SluiceError('SLUICE_E_CURVE_INVALID', `${path}:${line}: ${what}.`, { details: { path, line } });
}
