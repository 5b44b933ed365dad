/** A run's metrics in files that other tools read. */

import { refuseUnwritable, SluiceError, writeOutputFile } from '@sluice/core';
import { counted, readMetricsTable } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { existingRun } from './runDirectory.ts';

/** @throws SLUICE_E_USAGE, SLUICE_E_RUN_MISSING, SLUICE_E_METRICS_DAMAGED, and what `writeOutputFile` throws */
export async function exportMetrics(
  path: string,
  { csv, parquet }: { readonly csv?: string | undefined; readonly parquet?: string | undefined },
): Promise<CommandResult> {
  if (csv === undefined && parquet === undefined) {
    throw new SluiceError('SLUICE_E_USAGE', 'Which file? Name one by --csv or --parquet.');
  }
  const run = existingRun(path);
  const files = [csv, parquet].filter((file) => file !== undefined);
  files.forEach(refuseUnwritable);
  const table = await readMetricsTable(run.path);
  if (csv !== undefined) await writeOutputFile(csv, table.csvParts());
  if (parquet !== undefined) await writeOutputFile(parquet, [table.parquet()]);
  const { rows, columns } = table;
  return {
    text: `${counted(rows, 'step')}, ${counted(columns.length, 'column')}: ${files.join(', ')}`,
    json: { files, rows, columns },
  };
}
