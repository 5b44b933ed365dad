/** What a run came to, read from its files. */

import { join } from 'node:path';
import {
  type ExperimentDiagnosis,
  type ExperimentRun,
  METRICS_FILE,
  meanOfGates,
  readMetrics,
} from '@sluice/observe';
import { type Diagnostics, episodesOf, SpikeDetector, SpikesConfig } from '@sluice/train';
import type { RunDirectory } from '../run/runDirectory.ts';

/** Points of a curve that are kept. */
const CURVE_POINTS = 200;

/** The last part of a run that its loss is the mean of. */
const LAST_PART = 20;

export type RunCurves = Pick<
  ExperimentRun,
  'step' | 'tokens' | 'trainLoss' | 'spikes' | 'curve' | 'validations'
>;

/** @param lastStep after which nothing counts; the last recorded one when left out */
export async function measureRun(
  run: RunDirectory,
  lastStep = Number.POSITIVE_INFINITY,
): Promise<RunCurves & { readonly rise: number | null }> {
  const losses: (number | null)[] = [];
  const norms: (number | null)[] = [];
  const validations: ExperimentRun['validations'] = [];
  let tokens = 0;
  for await (const record of readMetrics(join(run.path, METRICS_FILE))) {
    if (record.step > lastStep) break;
    losses.push(orNull(record.loss));
    norms.push(orNull(record.gradientNorm));
    tokens += record.tokens;
    if (record.validationLoss !== undefined) {
      validations.push({ step: record.step, loss: orNull(record.validationLoss) });
    }
  }
  return {
    step: losses.length,
    tokens,
    trainLoss: meanOf(losses.slice(-Math.ceil(losses.length / LAST_PART))),
    rise: riseOf(losses),
    spikes: lossSpikes(losses),
    curve: thinned(losses, norms),
    validations,
  };
}

/** Episodes of the loss alone, by the detector's own settings: a function of the curve, whatever else a run's detector looks at. */
function lossSpikes(losses: readonly (number | null)[]): number {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  const points = losses.map((loss, i) => ({ step: i + 1, loss: loss ?? Number.NaN }));
  return episodesOf(points.flatMap((point) => detector.observe(point) ?? [])).length;
}

/** By how much the loss of the last twentieth is above the lowest of all twentieths, nats; null where one of them is no number. */
function riseOf(losses: readonly (number | null)[]): number | null {
  const means = thinned(losses, losses, Math.min(LAST_PART, losses.length)).loss;
  if (means.length === 0 || means.includes(null)) return null;
  return means.at(-1)! - Math.min(...(means as number[]));
}

/** Means of equal stretches of steps; each stands at its last one. */
function thinned(
  losses: readonly (number | null)[],
  norms: readonly (number | null)[],
  points = Math.min(CURVE_POINTS, losses.length),
): ExperimentRun['curve'] {
  const ends = Array.from({ length: points }, (_, i) => Math.round(((i + 1) * losses.length) / points));
  const means = (values: readonly (number | null)[]) =>
    ends.map((end, i) => meanOf(values.slice(ends[i - 1] ?? 0, end)));
  return { steps: ends, loss: means(losses), gradientNorm: means(norms) };
}

/** @returns null for no values, or where one of them is no number */
function meanOf(values: readonly (number | null)[]): number | null {
  if (values.length === 0) return null;
  return orNull(values.reduce<number>((sum, value) => sum + (value ?? Number.NaN), 0) / values.length);
}

function orNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** What an experiment keeps of `sluice diagnose --json`. */
export function diagnosisOf(diagnosis: Diagnostics): ExperimentDiagnosis {
  return { ...measuresOf(diagnosis), layers: diagnosis.layers.map(measuresOf) };
}

function measuresOf(of: Omit<Diagnostics, 'layers'> | Diagnostics['layers'][number]) {
  return {
    firstTokenAttention: of.firstTokenAttention,
    massiveActivation: of.massiveActivation,
    feedForwardActivation: of.feedForwardActivation,
    gateScoreMean: of.gateScoreMean,
    gateBelowTenth: meanOfGates(of.gates, 'belowTenth') ?? null,
    largestAttentionLogit: of.largestAttentionLogit,
  };
}
