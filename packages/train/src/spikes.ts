/**
 * Detects loss spikes with robust statistics. A value is an outlier when it lies more than `threshold` robust deviations
 * (1.4826 × the median absolute deviation) above the median of the last `window` ordinary values; outliers are kept out
 * of the window, so that a spike does not hide the next one. Loss and gradient norm each have their own window.
 */

import type { RunConfig } from './config.ts';

export interface StepSignals {
  readonly step: number;
  readonly loss: number;
  readonly gradientNorm: number;
}

export interface SpikeEvent {
  readonly step: number;
  readonly signal: 'loss' | 'gradientNorm';
  readonly value: number;
  readonly median: number;
  /** Value − median. */
  readonly excess: number;
  /** Excess in robust deviations. */
  readonly score: number;
}

/** JSON; saved in every checkpoint, so that a resumed run is not blind at first. */
export interface SpikeDetectorState {
  readonly loss: readonly number[];
  readonly gradientNorm: readonly number[];
  /** Outliers since the last ordinary value. */
  readonly outliersInARow: Readonly<Record<'loss' | 'gradientNorm', number>>;
}

type Signal = SpikeEvent['signal'];

/** Makes the median absolute deviation estimate the standard deviation of normal data. */
const NORMAL_CONSISTENCY = 1.4826;
/** After this many outliers in a row the level has changed for good: the window starts anew. */
const LEVEL_CHANGE = 64;

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export class SpikeDetector {
  readonly #config: RunConfig['spikes'];
  readonly #windows: Record<Signal, number[]> = { loss: [], gradientNorm: [] };
  #outliersInARow: Record<Signal, number> = { loss: 0, gradientNorm: 0 };

  constructor(config: RunConfig['spikes']) {
    this.#config = config;
  }

  /** @returns the event when the step is a spike; of two signals the loss is named first */
  observe({ step, loss, gradientNorm }: StepSignals): SpikeEvent | undefined {
    if (this.#config.policy === 'off') return undefined;
    const byNorm = this.#judge('gradientNorm', step, gradientNorm, 0);
    const byLoss = this.#judge('loss', step, loss, this.#config.minimumExcess);
    return byLoss ?? byNorm;
  }

  state(): SpikeDetectorState {
    return {
      loss: [...this.#windows.loss],
      gradientNorm: [...this.#windows.gradientNorm],
      outliersInARow: { ...this.#outliersInARow },
    };
  }

  restore(state: SpikeDetectorState): void {
    this.#windows.loss = [...state.loss];
    this.#windows.gradientNorm = [...state.gradientNorm];
    this.#outliersInARow = { ...state.outliersInARow };
  }

  #judge(signal: Signal, step: number, value: number, minimumExcess: number): SpikeEvent | undefined {
    const window = this.#windows[signal];
    if (window.length < this.#config.warmupSteps) {
      if (Number.isFinite(value)) window.push(value);
      return undefined;
    }
    const median = medianOf(window);
    const deviation = NORMAL_CONSISTENCY * medianOf(window.map((v) => Math.abs(v - median)));
    const excess = value - median;
    const score = excess / Math.max(deviation, 1e-6 * Math.abs(median), Number.MIN_VALUE);
    const ordinary = score <= this.#config.threshold || excess < minimumExcess;
    if (Number.isFinite(value) && (ordinary || ++this.#outliersInARow[signal] > LEVEL_CHANGE)) {
      if (!ordinary) window.length = 0;
      this.#outliersInARow[signal] = 0;
      window.push(value);
      if (window.length > this.#config.window) window.shift();
      return undefined;
    }
    return { step, signal, value, median, excess, score };
  }
}
