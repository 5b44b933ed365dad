/** Curves and tables for a summary in the terminal. */

import asciichart from 'asciichart';
import Table from 'cli-table3';

export interface LossCurveOptions {
  /** Columns of the whole picture, labels included. */
  readonly width: number;
  /** Rows of the plot, without the line of step numbers. */
  readonly height: number;
  readonly color?: boolean;
  /** First and last step, where the values are not those of the steps from 1 on. */
  readonly ends?: readonly [number, number];
}

/**
 * A curve in text, with its values on the left and the step numbers below. Each column is the mean of the steps
 * that fall into it. Values that are not finite are left out; empty when none is left.
 * @param values one value for each step, from step 1
 */
export function renderLossCurve(values: readonly number[], options: LossCurveOptions): string {
  const finite = values.filter((value) => Number.isFinite(value));
  if (finite.length === 0) return '';
  const labelWidth = Math.max(...finite.map((value) => value.toFixed(2).length)) + 1;
  const columns = columnMeans(finite, Math.max(2, options.width - labelWidth));
  const flat = columns.every((value) => value === columns[0]);
  const plot = asciichart.plot(columns, {
    height: Math.max(1, options.height - 1),
    // One cell for the whole label, one for the axis.
    offset: 2,
    // The library labels a flat curve with its value rounded to a whole number.
    format: (value) => (flat ? columns[0]! : value).toFixed(2).padStart(labelWidth - 1),
    ...(options.color ? { colors: [asciichart.cyan] } : {}),
  });
  const [from, to] = options.ends ?? [1, values.length];
  const first = `step ${from}`;
  const last = String(to);
  const axis = `${first}${' '.repeat(Math.max(1, columns.length - first.length - last.length))}${last}`;
  return [...plot.split('\n').map((line) => line.trimEnd()), `${' '.repeat(labelWidth - 1)}${axis}`].join(
    '\n',
  );
}

function columnMeans(values: readonly number[], columns: number): number[] {
  if (values.length <= columns) return [...values];
  return Array.from({ length: columns }, (_, column) => {
    const part = values.slice(
      Math.floor((column * values.length) / columns),
      Math.floor(((column + 1) * values.length) / columns),
    );
    return part.reduce((a, b) => a + b, 0) / part.length;
  });
}

export interface TerminalTableOptions {
  readonly header?: readonly string[];
  /** Alignment of each column; left where none is given. */
  readonly align?: readonly ('left' | 'right')[];
}

/** Rows of cells in aligned columns, without borders. */
export function terminalTable(
  rows: readonly (readonly string[])[],
  options: TerminalTableOptions = {},
): string {
  const blank = Object.fromEntries(
    [
      'top',
      'top-mid',
      'top-left',
      'top-right',
      'bottom',
      'bottom-mid',
      'bottom-left',
      'bottom-right',
      'left',
      'left-mid',
      'mid',
      'mid-mid',
      'right',
      'right-mid',
    ].map((part) => [part, '']),
  );
  const table = new Table({
    chars: { ...blank, middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: [...(options.align ?? [])],
  });
  if (options.header) table.push([...options.header]);
  for (const row of rows) table.push([...row]);
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
