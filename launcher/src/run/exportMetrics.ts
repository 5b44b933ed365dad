/** A run's metrics in files that other tools read. */

import { resolve } from 'node:path';
import { refuseUnwritable, SluiceError, writeOutputFile } from '@sluice/core';
import { counted, readMetricsTable } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { interruptible } from '../signals/interruptible.ts';
import { percentLogger } from './percentLogger.ts';
import { existingRun } from './runDirectory.ts';

/**
 * @throws SLUICE_E_USAGE, SLUICE_E_RUN_MISSING, SLUICE_E_METRICS_DAMAGED, SLUICE_E_INTERRUPTED, and what `writeOutputFile` throws;
 *   a file that is being written is not left then
 */
export async function exportMetrics(
  path: string,
  { csv, parquet }: { readonly csv?: string | undefined; readonly parquet?: string | undefined },
  log: (line: string) => void,
): Promise<CommandResult> {
  if (csv === undefined && parquet === undefined) {
    throw new SluiceError('SLUICE_E_USAGE', 'Which file? Name one by --csv or --parquet.');
  }
  const run = existingRun(path);
  const files = [csv, parquet].filter((file) => file !== undefined);
  files.forEach(refuseUnwritable);
  if (csv !== undefined && parquet !== undefined && resolve(csv) === resolve(parquet)) {
    throw new SluiceError(
      'SLUICE_E_USAGE',
      `--csv and --parquet are both ${csv}: the one would take the place of the other.`,
    );
  }
  const { rows, columns } = await interruptible(async (signal) => {
    const progress = (what: string) => percentLogger(what, log, signal);
    const table = await readMetricsTable(run.path, progress('reading metrics'));
    if (csv !== undefined) await writeOutputFile(csv, table.csvParts(progress(`writing ${csv}`)), signal);
    if (parquet !== undefined) {
      await writeOutputFile(parquet, table.parquetParts(progress(`writing ${parquet}`)), signal);
    }
    return table;
  });
  return {
    text: `${counted(rows, 'step')}, ${counted(columns.length, 'column')}: ${files.join(', ')}`,
    json: { files, rows, columns },
  };
}
