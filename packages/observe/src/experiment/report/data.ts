/** What the script in an experiment's report draws. It travels as JSON inside the page. */

import type { ChartData } from '../../report/data.ts';

export interface ExperimentPageData {
  readonly rows: readonly ShownRow[];
  /** Rows that are shown at first. */
  readonly shown: readonly number[];
  readonly charts: readonly ExperimentChart[];
}

export interface ShownRow {
  readonly label: string;
  /** Name of a colour of the page. */
  readonly color: string;
  /** Lengths of strokes and gaps in pixels; a whole line when empty. */
  readonly dash: readonly number[];
}

export interface ExperimentChart extends Pick<ChartData, 'numbers' | 'logarithmic' | 'wide'> {
  readonly id: string;
  readonly lines: readonly ExperimentLine[];
}

/** One seed of a row, or the mean of its seeds. */
export interface ExperimentLine {
  /** Index among the rows. */
  readonly row: number;
  /** Null for the mean. */
  readonly seed: number | null;
  /** Whether the run broke off where the line ends. */
  readonly isBroken: boolean;
  /** Ascending. */
  readonly steps: readonly number[];
  readonly values: readonly (number | null)[];
}
