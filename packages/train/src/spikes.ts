/**
 * Detects loss spikes with robust statistics of logarithms. A value is an outlier when it lies more than `threshold` robust
 * deviations (1.4826 × the median absolute deviation from their trend) above what is usual: the median of the last `window`
 * ordinary values, or where their trend leads, whichever is higher (norms rise while the learning rate warms up; a falling
 * loss is judged by its median). The trend is the line through the medians of the older and the newer half. Outliers are
 * kept out of the window, so that a spike does not hide the next one. Each signal has a window of its own. Loss and gradient
 * norm make a spike; the norms of the groups of parameters, the sizes of updates, and what is measured every so many steps, only
 * tell what moved first.
 */

import { elementary } from '@sluice/core';
import type { ParameterGroup } from '@sluice/model';
import type { RunConfig } from './config.ts';
import { medianInPlace } from './median.ts';
import { SlidingWindow } from './slidingWindow.ts';

/** Numbers of a step that all workers agree on. */
export interface StepSignals {
  readonly step: number;
  readonly loss: number;
  /** Undefined where it was not recorded; then the loss alone is judged. */
  readonly gradientNorm?: number | undefined;
  /** Of the gradient of each group of parameters that the model has. */
  readonly groupNorms?: Readonly<Partial<Record<ParameterGroup, number>>> | undefined;
  /** Of the update of the step before; undefined where it was not applied. */
  readonly lastUpdate?: RelativeUpdate | undefined;
}

/** ‖update‖ ÷ ‖weights‖ ÷ the learning rate: of all weights, and of each group of parameters that the model has. */
export interface RelativeUpdate {
  readonly overall: number;
  readonly groups: Readonly<Partial<Record<ParameterGroup, number>>>;
}

/** @param learningRate that was meant for the step of the update */
export function relativeUpdate(
  { overall, groups }: RelativeUpdate,
  learningRate: number,
): RelativeUpdate | undefined {
  if (!(learningRate > 0)) return undefined;
  return {
    overall: overall / learningRate,
    groups: Object.fromEntries(Object.entries(groups).map(([group, ratio]) => [group, ratio / learningRate])),
  };
}

/** Numbers that are measured every `diagnostics.everySteps` steps, of which more is worse. */
export interface MeasuredSignals {
  readonly attentionLogit: number | undefined;
  readonly activation: number;
  /** ln E less the mean entropy of the router: its preference for some experts, nats. */
  readonly routerPreference: number | undefined;
  /** One more than there are. */
  readonly deadExperts: number | undefined;
}

export type SignalName =
  | 'loss'
  | 'gradientNorm'
  | `gradientNorm.${ParameterGroup}`
  | 'update'
  | `update.${ParameterGroup}`
  | `measured.${keyof MeasuredSignals}`;

/** The first outlier of those that came with no long calm between them. */
export interface FirstMove {
  readonly signal: SignalName;
  readonly step: number;
  /** Its value as a multiple of its median; null where that is not finite. */
  readonly ratio: number | null;
  /** Excess in robust deviations of the logarithm; null where that is not finite. */
  readonly score: number | null;
}

export interface SpikeEvent {
  readonly step: number;
  readonly signal: 'loss' | 'gradientNorm';
  readonly value: number;
  readonly median: number;
  /** Value − median. */
  readonly excess: number;
  /** Excess of the logarithm over what is usual, in robust deviations. */
  readonly score: number;
  /** What the spike began with. Absent in the journals of older versions. */
  readonly first?: FirstMove;
}

/** The largest ordinary values of a step to come. */
export interface SpikeLimits {
  readonly loss: number;
  readonly gradientNorm: number;
}

/** JSON; saved in every checkpoint, so that a resumed run is not blind at first. */
export interface SpikeDetectorState {
  /** Logarithms of ordinary values, oldest first. */
  readonly windows: Readonly<Record<string, readonly number[]>>;
  /** For each signal, outliers since the last ordinary value. */
  readonly outliers: Readonly<Record<string, number>>;
  /** Steps in a row that were spikes, up to the last. */
  readonly inARow: number;
  /** Steps without an outlier since the last one. */
  readonly calmSteps: number;
  readonly first: FirstMove | null;
}

/** As versions up to 0.1 saved it: plain values of two signals. */
interface EarlierState {
  readonly loss: readonly number[];
  readonly gradientNorm: readonly number[];
}

/** Makes the median absolute deviation estimate the standard deviation of normal data. */
const NORMAL_CONSISTENCY = 1.4826;
/** Robust deviations are never taken to be less than this, relative. */
const LEAST_DEVIATION = 1e-6;
/** After this many outliers in a row the level has changed for good: the window starts anew. */
const LEVEL_CHANGE = 64;
/** Measurements needed before one is called an outlier: they are rarer than steps. */
const LEAST_MEASUREMENTS = 8;
/** Outliers with fewer steps than this between them belong together. */
export const CALM_STEPS = 8;

/** What is usual of a signal. */
interface Usual {
  readonly median: number;
  /** No value up to this is an outlier, however little the signal varies. */
  readonly lowestLimit: number;
  /** Computed when a value is above: most are not, and of a recorded curve there may be millions. */
  spread?: Spread;
}

/** How much a signal varies. */
interface Spread {
  /** Of logarithms. */
  readonly centre: number;
  readonly deviation: number;
  /** The largest ordinary value. */
  readonly limit: number;
}

export class SpikeDetector {
  readonly #config: RunConfig['spikes'];
  #windows = new Map<string, SlidingWindow>();
  /** Follows from the windows; kept as long as these stay the same. */
  readonly #usual = new Map<string, Usual>();
  #outliers = new Map<string, number>();
  #inARow = 0;
  #calmSteps = 0;
  #first: FirstMove | null = null;

  constructor(config: RunConfig['spikes']) {
    this.#config = config;
  }

  /** Steps in a row that were spikes, up to the last one observed. */
  get inARow(): number {
    return this.#inARow;
  }

  /** The first outlier of the spike that goes on. */
  get first(): FirstMove | null {
    return this.#first;
  }

  /** What the next step's values may be without being a spike; undefined while there is too little history. */
  limits(): SpikeLimits | undefined {
    if (this.#config.policy === 'off') return undefined;
    if (!this.#usualOf('loss') || !this.#usualOf('gradientNorm')) return undefined;
    return { loss: this.#spreadOf('loss').limit, gradientNorm: this.#spreadOf('gradientNorm').limit };
  }

  /** @returns the event when the step is a spike; of two signals the loss is named first */
  observe({ step, loss, gradientNorm, groupNorms = {}, lastUpdate }: StepSignals): SpikeEvent | undefined {
    if (this.#config.policy === 'off') return undefined;
    const judge = (of: number, signals: readonly Signal[]) =>
      signals.flatMap(([signal, value]) => this.#judge(signal, value, of) ?? []);
    const updates = lastUpdate ? signalsOf('update', lastUpdate.overall, lastUpdate.groups) : [];
    const outliers = [
      ...judge(step - 1, updates),
      ...judge(step, [...signalsOf('gradientNorm', gradientNorm, groupNorms), ['loss', loss]]),
    ];
    this.#noteFirst(outliers);
    const spike = outliers.findLast(({ signal }) => signal === 'loss' || signal === 'gradientNorm');
    this.#inARow = spike ? this.#inARow + 1 : 0;
    if (!spike) return undefined;
    const { signal, value, median, score } = spike;
    return {
      ...{ step, signal: signal as SpikeEvent['signal'], value, median, excess: value - median, score },
      first: this.#first!,
    };
  }

  /** Takes in what was measured after a step: outliers may be what a spike begins with, but make none. */
  observeMeasured(step: number, measured: MeasuredSignals): void {
    if (this.#config.policy === 'off') return;
    const outliers = Object.entries(measured).flatMap(
      ([name, value]) =>
        (value === undefined ? undefined : this.#judge(`measured.${name}` as SignalName, value, step)) ?? [],
    );
    if (outliers.length > 0) this.#noteFirst(outliers);
  }

  state(): SpikeDetectorState {
    return {
      windows: Object.fromEntries([...this.#windows].map(([signal, { values }]) => [signal, [...values]])),
      outliers: Object.fromEntries(this.#outliers),
      inARow: this.#inARow,
      calmSteps: this.#calmSteps,
      first: this.#first,
    };
  }

  restore(state: SpikeDetectorState): void {
    const { windows, outliers, inARow, calmSteps, first } = 'windows' in state ? state : converted(state);
    this.#windows = new Map(
      Object.entries(windows).map(([signal, values]) => [signal, new SlidingWindow(values)]),
    );
    this.#usual.clear();
    this.#outliers = new Map(Object.entries(outliers));
    this.#inARow = inARow;
    this.#calmSteps = calmSteps;
    this.#first = first;
  }

  /** Takes the value of a step in, or tells why not. */
  #judge(signal: SignalName, value: number, step: number): Outlier | undefined {
    const isNumber = Number.isFinite(value) && value > 0;
    const usual = this.#usualOf(signal);
    if (!usual) {
      if (isNumber) this.#takeIn(signal, value);
      return undefined;
    }
    const ordinary = value <= usual.lowestLimit || value <= this.#spreadOf(signal).limit;
    const outliers = ordinary ? 0 : (this.#outliers.get(signal) ?? 0) + 1;
    this.#outliers.set(signal, outliers);
    if (isNumber && (ordinary || outliers > LEVEL_CHANGE)) {
      if (!ordinary) this.#windows.set(signal, new SlidingWindow());
      this.#outliers.set(signal, 0);
      this.#takeIn(signal, value);
      return undefined;
    }
    // A loss or norm of zero is below every limit, and no outlier.
    if (ordinary) return undefined;
    const { centre, deviation } = this.#spreadOf(signal);
    return { step, signal, value, median: usual.median, score: (elementary.log(value) - centre) / deviation };
  }

  #takeIn(signal: SignalName, value: number): void {
    const { window, warmupSteps } = this.#config;
    this.#windowOf(signal).push(elementary.log(value), Math.max(window, warmupSteps));
    this.#usual.delete(signal);
  }

  #windowOf(signal: SignalName): SlidingWindow {
    let window = this.#windows.get(signal);
    if (!window) {
      window = new SlidingWindow();
      this.#windows.set(signal, window);
    }
    return window;
  }

  /** What is usual of a signal; undefined while there is too little history. */
  #usualOf(signal: SignalName): Usual | undefined {
    const window = this.#windowOf(signal);
    const least = signal.startsWith('measured.') ? LEAST_MEASUREMENTS : this.#config.warmupSteps;
    if (window.length < least) return undefined;
    const known = this.#usual.get(signal);
    if (known) return known;
    const { minimumExcess, minimumRatio } = this.#config;
    const median = elementary.exp(window.median);
    const lowestLimit = signal === 'loss' ? median + minimumExcess : median * minimumRatio;
    const usual = { median, lowestLimit };
    this.#usual.set(signal, usual);
    return usual;
  }

  /** @param signal with enough history */
  #spreadOf(signal: SignalName): Spread {
    const usual = this.#usualOf(signal)!;
    usual.spread ??= this.#compute(this.#windowOf(signal), usual.lowestLimit);
    return usual.spread;
  }

  #compute({ values, median, length }: SlidingWindow, lowestLimit: number): Spread {
    const half = length >> 1;
    const scratch = Float64Array.from(values);
    const older = medianInPlace(scratch.subarray(0, half));
    const newer = medianInPlace(scratch.subarray(half));
    // The line through both halves' medians: without it a loss that falls fast would seem to vary much.
    const slope = (newer - older) / (length / 2);
    const line = (i: number) => newer + slope * (i - 0.75 * length + 0.5);
    for (let i = 0; i < length; i++) scratch[i] = Math.abs(values[i]! - line(i));
    const deviation = Math.max(NORMAL_CONSISTENCY * medianInPlace(scratch), LEAST_DEVIATION);
    const centre = Math.max(median, line(length));
    const limit = Math.max(elementary.exp(centre + this.#config.threshold * deviation), lowestLimit);
    return { centre, deviation, limit };
  }

  #noteFirst(outliers: readonly Outlier[]): void {
    if (outliers.length === 0) {
      if (++this.#calmSteps >= CALM_STEPS) this.#first = null;
      return;
    }
    this.#calmSteps = 0;
    if (this.#first) return;
    const { signal, step, value, median, score } = outliers.reduce((a, b) =>
      b.step < a.step || (b.step === a.step && b.score > a.score) ? b : a,
    );
    const finite = (x: number) => (Number.isFinite(x) ? x : null);
    this.#first = { signal, step, ratio: finite(value / median), score: finite(score) };
  }
}

type Signal = readonly [SignalName, number];

/** Those of the groups of parameters, and that of all of them. */
function signalsOf(
  kind: 'gradientNorm' | 'update',
  overall: number | undefined,
  groups: Readonly<Partial<Record<ParameterGroup, number>>>,
): Signal[] {
  const ofGroups = Object.entries(groups).map(
    ([group, value]): Signal => [`${kind}.${group as ParameterGroup}`, value],
  );
  return overall === undefined ? ofGroups : [...ofGroups, [kind, overall]];
}

interface Outlier {
  readonly step: number;
  readonly signal: SignalName;
  readonly value: number;
  readonly median: number;
  readonly score: number;
}

function converted({ loss, gradientNorm }: EarlierState): SpikeDetectorState {
  const logarithms = (values: readonly number[]) =>
    values.filter((value) => value > 0).map((value) => elementary.log(value));
  return {
    windows: { loss: logarithms(loss), gradientNorm: logarithms(gradientNorm) },
    ...{ outliers: {}, inARow: 0, calmSteps: 0, first: null },
  };
}
