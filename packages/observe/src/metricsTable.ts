/** A run's metrics as a flat table: one line a step, with what was measured inside of the model where it was. */

import { join } from 'node:path';
import { DIAGNOSTICS_FILE, readDiagnostics } from './diagnosticsLog.ts';
import { type FlatTable, flatTable, type TableColumn } from './experiment/tables.ts';
import { METRICS_FILE, readMetrics } from './metricsLog.ts';
import { Column } from './report/columns.ts';
import { measuredScalars, type Scalars, stepScalars } from './scalars.ts';

/** Whole numbers of steps, beside the step itself. */
const WHOLE = new Set([
  'tokens',
  'system/peak_memory_bytes',
  'train/update_skipped',
  'train/spike',
  'model/dead_experts',
]);

export interface MetricsTable extends FlatTable {
  readonly rows: number;
  /** Names of the columns, in their order. */
  readonly columns: readonly string[];
}

/**
 * Reads the logs of a run. Columns are step, time, tokens, and then what other tools are told (`stepScalars`), where any step has it.
 * @throws SLUICE_E_METRICS_DAMAGED
 */
export async function readMetricsTable(runDirectory: string): Promise<MetricsTable> {
  const steps = new Column('double');
  const times: string[] = [];
  const columns = new Map<string, Column>();
  const put = (row: number, scalars: Scalars) => {
    for (const name in scalars) {
      let column = columns.get(name);
      if (!column) {
        column = new Column('double');
        columns.set(name, column);
      }
      column.put(row, scalars[name]!);
    }
  };
  for await (const record of readMetrics(join(runDirectory, METRICS_FILE))) {
    put(steps.length, { tokens: record.tokens, ...stepScalars(record) });
    steps.push(record.step);
    times.push(record.time);
  }
  const all = steps.values();
  let row = 0;
  for await (const record of readDiagnostics(join(runDirectory, DIAGNOSTICS_FILE))) {
    while (row < all.length && all[row]! < record.step) row++;
    if (all[row] === record.step) put(row, measuredScalars(record));
  }
  const table: TableColumn<number>[] = [
    { name: 'step', type: 'whole', value: (at) => all[at]! },
    { name: 'time', type: 'text', value: (at) => times[at]! },
    ...[...columns].map(
      ([name, column]): TableColumn<number> => ({
        ...{ name, type: WHOLE.has(name) ? 'whole' : 'real' },
        value: (at) => (Number.isFinite(column.at(at)) ? column.at(at) : null),
      }),
    ),
  ];
  const rows = Array.from({ length: all.length }, (_, at) => at);
  return { ...flatTable(table, rows), rows: rows.length, columns: table.map(({ name }) => name) };
}
