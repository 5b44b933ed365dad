/** Tells a run to TensorBoard: scalars, histograms of gate scores, heat maps of layers, the configuration. */

import { rmSync } from 'node:fs';
import type { DiagnosticsRecord } from '../diagnosticsLog.ts';
import type { StepRecord } from '../record.ts';
import type { LayerMapData } from '../report/data.ts';
import { LayerHistory } from '../report/layerHistory.ts';
import type { SampleRecord } from '../samplesLog.ts';
import { measuredScalars, type Scalars, stepScalars } from '../scalars.ts';
import type { MetricsSink } from '../sink.ts';
import { EventFile } from './eventFile.ts';
import {
  type Hyperparameters,
  histogramValue,
  hyperparameterValues,
  imageValue,
  type SummaryValue,
  scalarValue,
  sessionEndValue,
  textValue,
} from './messages.ts';
import { encodePng, viridis } from './png.ts';

/** Name of the folder in a run's directory. */
export const TENSORBOARD_FOLDER = 'tensorboard';

/** Values that a histogram is said to have been made of; only shares are known. */
const HISTOGRAM_COUNT = 10_000;

/** Sides of a cell of a heat map, pixels. */
const CELL_WIDTH = 4;
const CELL_HEIGHT = 16;

export interface TensorboardOptions {
  /** The resolved configuration. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Whether the folder holds nothing of the run yet, which is then told with its configuration. */
  readonly isNew: boolean;
  /** Clock, seconds since 1970. */
  readonly now: () => number;
}

export class TensorboardSink implements MetricsSink {
  readonly name = 'TensorBoard';
  readonly #file: EventFile;
  readonly #now: () => number;
  readonly #layers = new LayerHistory();
  #measurements = 0;
  #lastTime: number;
  #lastStep: number;

  /** @throws SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL */
  constructor(folder: string, { config, isNew, now }: TensorboardOptions) {
    this.#now = now;
    this.#lastTime = now();
    this.#lastStep = 0;
    this.#file = new EventFile(folder, this.#lastTime);
    if (!isNew) return;
    const measures = [{ tag: 'train/loss' }, { tag: 'validation/loss' }];
    this.#append(0, this.#lastTime, [
      textValue('configuration', `\`\`\`json\n${JSON.stringify(config, undefined, 2)}\n\`\`\``),
      ...hyperparameterValues(hyperparametersOf(config), measures, this.#lastTime),
    ]);
  }

  step(record: StepRecord): void {
    this.#append(record.step, secondsOf(record, this.#now), scalarValues(stepScalars(record)));
  }

  measured(record: DiagnosticsRecord): void {
    const histograms = record.gates.map(({ name, histogram }) => gateHistogram(`gates/${name}`, histogram));
    this.#append(record.step, this.#lastTime, [...scalarValues(measuredScalars(record)), ...histograms]);
    this.#layers.add(record);
    this.#measurements++;
    // A picture of all so far is as long as the run: whenever that has doubled is often enough.
    if (Number.isInteger(Math.log2(this.#measurements))) this.#drawLayers();
  }

  sampled(samples: readonly SampleRecord[]): void {
    for (const [index, { step, prompt, text }] of samples.entries()) {
      this.#append(step, this.#lastTime, [textValue(`samples/${index + 1}`, indented(`${prompt}${text}`))]);
    }
  }

  wentBack(step: number): void {
    this.#layers.cut(step);
    this.#lastStep = step;
    this.#file.append(this.#now(), step + 1, { isRestart: true });
  }

  close(isSuccess: boolean): void {
    this.#drawLayers();
    this.#append(this.#lastStep, this.#lastTime, [sessionEndValue(isSuccess, this.#lastTime)]);
    this.#file.close();
  }

  /** Ends without what it has written. */
  discard(): void {
    this.#file.close();
    rmSync(this.#file.path, { force: true });
  }

  #drawLayers(): void {
    const images = this.#layers.maps().map(layerImage);
    if (images.length > 0) this.#append(this.#lastStep, this.#lastTime, images);
  }

  #append(step: number, seconds: number, values: readonly SummaryValue[]): void {
    this.#lastTime = seconds;
    this.#lastStep = step;
    this.#file.append(seconds, step, { values });
  }
}

/** Text that no Markdown is found in. */
function indented(text: string): string {
  return text.replaceAll(/^/gm, '    ');
}

function secondsOf({ time }: StepRecord, now: () => number): number {
  const seconds = Date.parse(time) / 1000;
  return Number.isFinite(seconds) ? seconds : now();
}

function scalarValues(scalars: Scalars): SummaryValue[] {
  return Object.entries(scalars).map(([tag, value]) => scalarValue(tag, value));
}

function gateHistogram(tag: string, shares: readonly number[]): SummaryValue {
  return histogramValue(tag, {
    limits: shares.map((_, bin) => (bin + 1) / shares.length),
    counts: shares.map((share) => Math.round(share * HISTOGRAM_COUNT)),
    low: 0,
    high: 1,
  });
}

/** Layers from top to bottom, measurements from left to right. */
function layerImage({ id, layers, steps, values, low, high, logarithmic }: LayerMapData): SummaryValue {
  const scaled = (value: number) => (logarithmic ? Math.log(Math.max(value, Number.MIN_VALUE)) : value);
  const span = scaled(high) - scaled(low) || 1;
  const [width, height] = [steps.length * CELL_WIDTH, layers * CELL_HEIGHT];
  const rgb = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = values[Math.floor(x / CELL_WIDTH)]?.[Math.floor(y / CELL_HEIGHT)] ?? null;
      if (value !== null) rgb.set(viridis((scaled(value) - scaled(low)) / span), 3 * (y * width + x));
    }
  }
  return imageValue(`layers/${id.replace(/^map-/, '')}`, encodePng(width, height, rgb), width, height);
}

/** Keys by their paths; what is neither number, text nor truth is told as JSON. */
export function hyperparametersOf(config: Readonly<Record<string, unknown>>, prefix = ''): Hyperparameters {
  return Object.fromEntries(
    Object.entries(config).flatMap(([key, value]): [string, number | string | boolean][] => {
      const path = `${prefix}${key}`;
      if (value === undefined || value === null) return [];
      if (typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean') {
        return [[path, value]];
      }
      if (Array.isArray(value)) return [[path, JSON.stringify(value)]];
      return Object.entries(hyperparametersOf(value as Record<string, unknown>, `${path}.`));
    }),
  );
}
