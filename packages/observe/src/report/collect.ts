/** Reads a run's metrics once and makes of them what the report shows. */

import { readMetrics } from '../metricsLog.ts';
import { chartsOf, loadOf, type RunSummary, summaryOf } from './charts.ts';
import { MetricColumns } from './columns.ts';
import type { ReportData, StepRange } from './data.ts';

/** Skipped updates that are marked. */
const MARKS = 200;

export interface CollectedMetrics {
  readonly summary: RunSummary;
  readonly data: Pick<ReportData, 'charts' | 'load' | 'skipped'>;
}

/** Reads `metrics.jsonl` and reduces it to plots of bounded size. */
export async function collectMetrics(
  path: string,
  { unigramLoss }: { unigramLoss?: number | undefined } = {},
): Promise<CollectedMetrics> {
  const columns = new MetricColumns();
  let damagedLines = 0;
  const onDamaged = () => {
    damagedLines++;
  };
  for await (const record of readMetrics(path, { onDamaged })) columns.add(record);
  return describeColumns(columns, { damagedLines, unigramLoss });
}

/** What the page shows of columns; of the steps of `range`, where it is given. */
export function describeColumns(
  columns: MetricColumns,
  options: {
    readonly damagedLines: number;
    readonly unigramLoss?: number | undefined;
    readonly range?: StepRange | undefined;
  },
): CollectedMetrics {
  return {
    summary: summaryOf(columns, options.damagedLines),
    data: {
      charts: chartsOf(columns, options.unigramLoss, options.range),
      load: loadOf(columns),
      skipped: columns.skipped.slice(0, MARKS),
    },
  };
}
