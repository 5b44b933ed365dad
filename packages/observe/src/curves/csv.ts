/** Curves in CSV files, such as those that TensorBoard and Weights & Biases export: columns are found by their names. */

import { readTextFile, SluiceError } from '@sluice/core';
import { CsvError, parse } from 'csv-parse/sync';
import { chooseName, type WantedNames } from './names.ts';
import type { CurvePoint, RecordedCurve } from './recordedCurve.ts';

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
export function readCsvCurve(path: string, wanted: WantedNames): RecordedCurve {
  const [header, ...rows] = rowsOf(path, readTextFile(path));
  if (!header) throw invalid(path, 1, 'an empty file has no header of columns');
  const names = header.cells;
  const choose = (kind: 'step' | 'loss' | 'norm', name?: string) =>
    chooseName(kind, names, name, `${path}:${header.line}`, 'column');
  const [stepName, lossName] = [choose('step')!, choose('loss', wanted.loss)!];
  const normName = choose('norm', wanted.norm);
  const at = { step: names.indexOf(stepName), loss: names.indexOf(lossName) };
  const norm = normName === undefined ? -1 : names.indexOf(normName);
  const points: CurvePoint[] = [];
  let withoutLoss = 0;
  for (const { cells, line } of rows) {
    if (cells.length !== names.length) {
      throw invalid(path, line, `${cells.length} cells, but the header has ${names.length} columns`);
    }
    const read = (name: string, cell: string) => numberIn(cell) ?? refuseCell(path, line, name, cell);
    const step = read(stepName, cells[at.step]!);
    if (!Number.isSafeInteger(step) || step < 0) {
      throw invalid(path, line, `the step ${JSON.stringify(cells[at.step])} is no whole number from 0 on`);
    }
    const before = points.at(-1)?.step;
    if (before !== undefined && step <= before) {
      throw invalid(path, line, `step ${step} comes after step ${before}; steps must ascend`);
    }
    if (cells[at.loss] === '') {
      withoutLoss++;
      continue;
    }
    const hasNorm = norm >= 0 && cells[norm] !== '';
    points.push({
      ...{ step, loss: read(lossName, cells[at.loss]!) },
      gradientNorm: hasNorm ? read(normName!, cells[norm]!) : undefined,
    });
  }
  const remarks =
    withoutLoss === 0 ? [] : [`${withoutLoss} of ${rows.length} lines have no loss: passed over`];
  return { points, lossName, normName: normName ?? null, remarks };
}

function rowsOf(path: string, text: string): Row[] {
  const header = text.trimStart().split('\n', 1)[0]!;
  const delimiter = DELIMITERS.find((character) => header.includes(character)) ?? ',';
  // A cell of blanks would be one more, and a header with nothing between has one column.
  try {
    const options = { delimiter, trim: true, skip_empty_lines: true, relax_column_count: true, info: true };
    const parsed = parse(text, options) as unknown as { record: string[]; info: { lines: number } }[];
    return parsed.map(({ record, info }) => ({ cells: record, line: info.lines }));
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
