/** `sluice export-metrics`: a run's metrics as a table. */

import { defineCommand } from '../cli/command.ts';

interface ExportMetricsArguments {
  readonly run: string;
  readonly csv?: string;
  readonly parquet?: string;
}

export const exportMetricsCommand = defineCommand<ExportMetricsArguments>({
  name: 'export-metrics',
  describe: 'Write the metrics of a run as a table, a line for each step, for spreadsheets and data frames.',
  positionals: {
    run: { type: 'string', demandOption: true, describe: 'Directory of the run.' },
  },
  options: {
    csv: { type: 'string', requiresArg: true, describe: 'File that gets them as CSV.' },
    parquet: { type: 'string', requiresArg: true, describe: 'File that gets them as Parquet.' },
  },
  examples: [
    ['sluice export-metrics runs/quickstart --csv quickstart.csv', 'As CSV.'],
    ['sluice export-metrics runs/quickstart --parquet quickstart.parquet', 'For pandas, DuckDB or Polars.'],
  ],
  async run({ run, csv, parquet }, { log }) {
    return (await import('../run/exportMetrics.ts')).exportMetrics(run, { csv, parquet }, log);
  },
});
