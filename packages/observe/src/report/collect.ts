/** Reads a run's metrics once and makes of them what the report shows. */

import { readMetrics } from '../metricsLog.ts';
import { chartsOf, loadOf, type RunSummary, summaryOf } from './charts.ts';
import { MetricColumns } from './columns.ts';
import type { ReportData, StepRange } from './data.ts';

/** Stretches of a plot, each of which has a mark where an update in it was left out: none is wider than a mark or two. */
const MARKED_STRETCHES = 800;

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
      skipped: markedSteps(columns, options.range),
    },
  };
}

/** Of the steps whose update was left out the first of each stretch. */
function markedSteps({ steps, skipped }: MetricColumns, range: StepRange | undefined): number[] {
  const { from, to } = range ?? { from: steps.at(0), to: steps.at(steps.length - 1) };
  // By powers of two, so that marks stay where they are while a run goes on.
  const stretch = 2 ** Math.ceil(Math.max(0, Math.log2((to - from + 1) / MARKED_STRETCHES)));
  let marked = -1;
  return skipped.filter((step) => {
    const at = Math.floor((step - from) / stretch);
    if (step < from || step > to || at === marked) return false;
    marked = at;
    return true;
  });
}
