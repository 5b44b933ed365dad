/** A run's metrics as a flat table: one line a step, with what was measured inside of the model where it was. */

import { join } from 'node:path';
import { DIAGNOSTICS_FILE, readDiagnostics } from './diagnosticsLog.ts';
import { csvHeader, csvLines, ParquetParts, type TableColumn } from './flatTable.ts';
import { METRICS_FILE, readMetrics } from './metricsLog.ts';
import { measuredScalars, type Scalars, stepScalars } from './scalars.ts';

/** Whole numbers among what other tools are told. */
const WHOLE = new Set([
  'system/peak_memory_bytes',
  'train/update_skipped',
  'train/spike',
  'model/dead_experts',
]);

/** Lines that are held at a time: a group of rows of a Parquet file. */
const GROUP_ROWS = 20_000;

/** The table of a run. Its lines are read anew for each file that is made of it, as many as there were at first. */
export interface MetricsTable {
  readonly rows: number;
  /** Names of the columns, in their order. */
  readonly columns: readonly string[];
  readonly csvParts: (onProgress?: OnProgress) => AsyncGenerator<string>;
  readonly parquetParts: (onProgress?: OnProgress) => AsyncGenerator<Uint8Array>;
}

/** Told how much of the log has been read, of how much, bytes. */
type OnProgress = (done: number, total: number) => void;

interface TableRow {
  readonly step: number;
  readonly time: string;
  readonly tokens: number;
  readonly told: Scalars;
  readonly measured: Scalars;
}

/**
 * Reads the logs of a run. Columns are step, time, tokens, and then what other tools are told (`stepScalars`, `measuredScalars`), where any step has it.
 * @throws SLUICE_E_METRICS_DAMAGED, also while the parts of a file are made
 */
export async function readMetricsTable(runDirectory: string, onProgress?: OnProgress): Promise<MetricsTable> {
  let rows = 0;
  const told = new Set<string>();
  const measured = new Set<string>();
  for await (const row of readRows(runDirectory, onProgress)) {
    rows++;
    for (const name in row.told) told.add(name);
    for (const name in row.measured) measured.add(name);
  }
  const columns: TableColumn<TableRow>[] = [
    { name: 'step', type: 'whole', value: ({ step }) => step },
    { name: 'time', type: 'text', value: ({ time }) => time },
    { name: 'tokens', type: 'whole', value: ({ tokens }) => (Number.isFinite(tokens) ? tokens : null) },
    ...[...told].map((name) => scalarColumn(name, (row) => row.told)),
    ...[...measured].map((name) => scalarColumn(name, (row) => row.measured)),
  ];
  const groups = (progress?: OnProgress) => grouped(readRows(runDirectory, progress), rows);
  return {
    rows,
    columns: columns.map(({ name }) => name),
    async *csvParts(progress) {
      yield csvHeader(columns);
      for await (const group of groups(progress)) yield csvLines(columns, group);
    },
    async *parquetParts(progress) {
      const file = new ParquetParts(columns);
      for await (const group of groups(progress)) yield file.add(group);
      yield file.end();
    },
  };
}

function scalarColumn(name: string, scalarsOf: (row: TableRow) => Scalars): TableColumn<TableRow> {
  return {
    ...{ name, type: WHOLE.has(name) ? 'whole' : 'real' },
    value: (row) => scalarsOf(row)[name] ?? null,
  };
}

/** Each step with what was measured after it, as both logs have them in order. */
async function* readRows(runDirectory: string, onProgress?: OnProgress): AsyncGenerator<TableRow> {
  const measurements = readDiagnostics(join(runDirectory, DIAGNOSTICS_FILE));
  try {
    let next = await measurements.next();
    for await (const record of readMetrics(join(runDirectory, METRICS_FILE), { onProgress })) {
      const { step, time, tokens } = record;
      while (!next.done && next.value.step < step) next = await measurements.next();
      const measured = !next.done && next.value.step === step ? measuredScalars(next.value) : {};
      yield { step, time, tokens, told: stepScalars(record), measured };
    }
  } finally {
    await measurements.return(undefined);
  }
}

/** @param limit rows in all: a run that goes on adds to its logs */
async function* grouped<T>(rows: AsyncIterable<T>, limit: number): AsyncGenerator<T[]> {
  let group: T[] = [];
  let left = limit;
  for await (const row of rows) {
    if (left-- === 0) break;
    group.push(row);
    if (group.length < GROUP_ROWS) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}
