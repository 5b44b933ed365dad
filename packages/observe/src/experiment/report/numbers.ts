/** Numbers of an experiment as its report writes them. */

import { formatNumber } from '../../format.ts';
import type { Difference, Estimate } from '../compare.ts';
import type { ExperimentResultRow } from '../results.ts';

/** `4.2013 ± 0.0042`, mean and standard deviation over seeds; of one seed the value alone. */
export function meanText(estimate: Estimate | undefined, format: (value: number) => string): string {
  if (!estimate) return '–';
  const { mean, spread } = estimate;
  return spread === undefined ? format(mean) : `${format(mean)} ± ${format(spread)}`;
}

/** With its sign: `−0.0310`, `+0.0042`. */
export function signed(value: number, format: (magnitude: number) => string): string {
  return `${value < 0 ? '−' : value > 0 ? '+' : ''}${format(Math.abs(value))}`;
}

/** `−0.0310 [−0.0402, −0.0218]`. */
export function differenceText(
  difference: Difference | undefined,
  format: (magnitude: number) => string,
): string {
  if (!difference) return 'nothing to compare';
  const { mean, interval } = difference;
  const ends = interval ? ` [${signed(interval.low, format)}, ${signed(interval.high, format)}]` : '';
  return `${signed(mean, format)}${ends}`;
}

/** In the paper, what training diverged on has no number. */
export function paperText(
  { paper }: ExperimentResultRow,
  measure: string,
  format: (value: number) => string = formatPlain,
): string {
  const value = paper[measure];
  return value === undefined ? '' : value === null ? 'diverged' : format(value);
}

/** With the digits that it was given with. */
export function formatPlain(value: number): string {
  return Math.abs(value) >= 1e6 ? formatNumber(value) : String(value);
}
