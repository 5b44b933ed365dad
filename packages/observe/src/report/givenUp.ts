/** The curves of steps that a run gave up when it went back, laid over those of the steps that it rests on. */

import { join } from 'node:path';
import { readMetrics } from '../metricsLog.ts';
import type { StepRecord } from '../record.ts';
import { type SupersededSteps, supersededSteps } from '../superseded.ts';
import type { ChartData, SeriesData, WayBack } from './data.ts';
import { selectExtremes } from './downsample.ts';

/** Points of one curve in one plot. */
const POINTS = 200;

/** What the charts show of a step. */
const VALUES: Readonly<Record<string, (record: StepRecord) => number>> = {
  loss: ({ loss }) => loss,
  'gradient-norm': ({ gradientNorm }) => (gradientNorm > 0 ? gradientNorm : Number.NaN),
};

export interface CollectedSuperseded {
  /** For each way back whose log is there, what it said of the steps that were given up. */
  readonly givenUp: readonly (readonly StepRecord[])[];
  /** Stretches that were taken again for another reason. */
  readonly takenAgain: readonly SupersededSteps[];
}

/** Tells the logs of steps that were given up from those of steps that were taken again after a fault. */
export async function collectSuperseded(
  runDirectory: string,
  rollbacks: readonly WayBack[],
): Promise<CollectedSuperseded> {
  const takenAgain = supersededSteps(runDirectory);
  const givenUp: StepRecord[][] = [];
  for (const { from, to } of rollbacks) {
    const index = takenAgain.findIndex(({ first, last }) => first <= to + 1 && last === from);
    if (index < 0) continue;
    const [{ file }] = takenAgain.splice(index, 1) as [SupersededSteps];
    const records: StepRecord[] = [];
    const options = { after: to, onDamaged: () => {} };
    for await (const record of readMetrics(join(runDirectory, file), options)) records.push(record);
    givenUp.push(records);
  }
  return { givenUp, takenAgain };
}

/** A chart with the curves of the steps that were given up, where it shows anything of them. */
export function withGivenUp(chart: ChartData, givenUp: CollectedSuperseded['givenUp']): ChartData {
  const read = VALUES[chart.id];
  if (!read || givenUp.length === 0) return chart;
  const curves = givenUp.map((records) => new Map(records.map((record) => [record.step, read(record)])));
  const chosen = curves.flatMap((curve) => {
    const steps = [...curve.keys()];
    return selectExtremes([...curve.values()], POINTS).map((index) => steps[index]!);
  });
  const steps = [...new Set([...chart.steps, ...chosen])].sort((a, b) => a - b);
  const place = new Map(chart.steps.map((step, index) => [step, index]));
  const kept = chart.series.map((series) => ({
    ...series,
    values: steps.map((step) => series.values[place.get(step) ?? -1] ?? null),
  }));
  const drawn = rowsWithoutOverlap(curves).map(
    (row, index): SeriesData => ({
      label: index === 0 ? 'given up' : `given up (${index + 1})`,
      role: 'givenUp',
      // At each step within a curve, so that it has no gaps, and none between one curve and the next.
      values: steps.map((step) => compact(row.find((curve) => curve.has(step))?.get(step))),
    }),
  );
  return { ...chart, steps, series: [...kept, ...drawn] };
}

/** Curves that share no step can be one series. */
function rowsWithoutOverlap<Curve extends ReadonlyMap<number, number>>(curves: readonly Curve[]): Curve[][] {
  const rows: Curve[][] = [];
  for (const curve of curves) {
    const steps = [...curve.keys()];
    // Next to each other, they would look like one.
    const around = [...steps, steps[0]! - 1, steps.at(-1)! + 1];
    const free = rows.find((row) => !row.some((other) => around.some((step) => other.has(step))));
    if (free) free.push(curve);
    else rows.push([curve]);
  }
  return rows;
}

function compact(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) ? Number(value.toPrecision(6)) : null;
}
