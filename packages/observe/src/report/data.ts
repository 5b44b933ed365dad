/** What the script in the report's page draws. It travels as JSON inside the page. */

/** How a series is drawn; the page gives each role its colour, for dark and for light. */
export type SeriesRole =
  | 'raw'
  | 'smoothed'
  | 'validation'
  | 'reference'
  | 'first'
  | 'second'
  | 'third'
  | 'fourth'
  | 'fifth'
  | 'sixth'
  | 'seventh'
  | 'eighth'
  | 'givenUp';

export interface SeriesData {
  readonly label: string;
  readonly role: SeriesRole;
  /** One value for each of the chart's steps; null where there is none. */
  readonly values: readonly (number | null)[];
}

export interface ChartData {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  /** How the numbers of the axis are written. */
  readonly numbers: 'plain' | 'exponential' | 'count' | 'bytes';
  readonly logarithmic?: boolean;
  /** The axis starts at zero. */
  readonly fromZero?: boolean;
  /** Where the axis ends at the top, so that a few outliers do not flatten the rest. */
  readonly top?: number | undefined;
  /** Takes the whole width of the page. */
  readonly wide?: boolean;
  /** Spikes, skipped updates and steps that were given up are marked. */
  readonly marked?: boolean;
  readonly steps: readonly number[];
  readonly series: readonly SeriesData[];
}

/** Loads of the experts at some steps, as multiples of the fair share. */
export interface LoadData {
  readonly steps: readonly number[];
  readonly layers: number;
  readonly experts: number;
  /** For each step, layer by layer, expert by expert. */
  readonly values: readonly (readonly number[])[];
}

/** A number of each layer over the run, as a heat map. */
export interface LayerMapData {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  /** Colours follow the logarithm of the numbers. */
  readonly logarithmic?: boolean;
  /** Numbers of the first and of the last colour. */
  readonly low: number;
  readonly high: number;
  readonly steps: readonly number[];
  readonly layers: number;
  /** For each step, layer by layer. */
  readonly values: readonly (readonly (number | null)[])[];
}

/** Shares of gate scores in bins over [0, 1], over the run. */
export interface GateHistogramData {
  readonly steps: readonly number[];
  readonly bins: number;
  readonly gates: readonly {
    readonly name: string;
    /** For each step, the mean of the layers, bin by bin from 0 on. */
    readonly values: readonly (readonly number[])[];
  }[];
}

/** Steps, both included. */
export interface StepRange {
  readonly from: number;
  readonly to: number;
}

export interface SpikeSpan {
  readonly start: number;
  readonly end: number;
  /** Whether its steps were given up. */
  readonly isGivenUp: boolean;
}

/** The run went back. */
export interface WayBack {
  /** The step after which it was decided. */
  readonly from: number;
  /** The step that the run went on after. */
  readonly to: number;
}

export interface ReportData {
  readonly charts: readonly ChartData[];
  readonly load?: LoadData | undefined;
  readonly layerMaps?: readonly LayerMapData[] | undefined;
  readonly gateHistograms?: GateHistogramData | undefined;
  readonly spikes: readonly SpikeSpan[];
  readonly rollbacks: readonly WayBack[];
  /** Steps whose update was kept from the weights (a bounded number of them). */
  readonly skipped: readonly number[];
}
