/** What a run came to, read from its files. */

import {
  type ExperimentDiagnosis,
  type ExperimentRun,
  meanOfGates,
  type RetrievalScores,
  readMetrics,
  type StepRecord,
} from '@sluice/observe';
import { type Diagnostics, episodesOf, SpikeDetector, SpikesConfig } from '@sluice/train';
import type { RunDirectory } from '../run/runDirectory.ts';
import { type HopelessRule, hopelessStep } from './hopeless.ts';

/** Points of a curve that are kept. */
const CURVE_POINTS = 200;

/** The last part of a run that its loss is the mean of. */
const LAST_PART = 20;

/** What a run's metrics say. */
export interface MeasuredRun {
  readonly curves: Pick<ExperimentRun, 'step' | 'tokens' | 'trainLoss' | 'spikes' | 'curve' | 'validations'>;
  /** By how much the loss ended above what it had come down to, nats a token; null where that is no number. */
  readonly rise: number | null;
  /** The step after which the run was hopeless, and nothing counts. */
  readonly hopelessAt: number | undefined;
}

/** @param rule when the run is given up, where it may be */
export async function measureRun({ metrics }: RunDirectory, rule?: HopelessRule): Promise<MeasuredRun> {
  // Of long runs whole records would be much memory.
  const all: Pick<StepRecord, 'step' | 'loss' | 'gradientNorm' | 'tokens' | 'validationLoss'>[] = [];
  for await (const { step, loss, gradientNorm, tokens, validationLoss } of readMetrics(metrics)) {
    all.push({ step, loss, gradientNorm, tokens, ...(validationLoss !== undefined && { validationLoss }) });
  }
  const hopelessAt =
    rule &&
    hopelessStep(
      all.map(({ loss }) => orNull(loss)),
      rule,
    );
  const records = all.slice(0, hopelessAt);
  const losses = records.map(({ loss }) => orNull(loss));
  return {
    curves: {
      step: records.at(-1)?.step ?? 0,
      tokens: records.reduce((sum, { tokens }) => sum + tokens, 0),
      trainLoss: meanOf(losses.slice(-Math.ceil(losses.length / LAST_PART))),
      spikes: lossSpikes(losses),
      curve: thinned(
        losses,
        records.map(({ gradientNorm }) => orNull(gradientNorm)),
      ),
      validations: records.flatMap(({ step, validationLoss }) =>
        validationLoss === undefined ? [] : [{ step, loss: orNull(validationLoss) }],
      ),
    },
    rise: riseOf(losses),
    hopelessAt,
  };
}

/** Episodes of the loss alone, by the detector's own settings: a function of the curve, whatever else a run's detector looks at. */
function lossSpikes(losses: readonly (number | null)[]): number {
  const detector = new SpikeDetector(SpikesConfig.parse({}));
  const points = losses.map((loss, i) => ({ step: i + 1, loss: loss ?? Number.NaN }));
  return episodesOf(points.flatMap((point) => detector.observe(point) ?? [])).length;
}

/** Of the loss of the last twentieth above the lowest of all twentieths; null where one of them is no number. */
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

/** What an experiment keeps of `sluice evaluate --task --json`, which was asked at one length. */
export function retrievalOf(answered: object): RetrievalScores {
  const { accuracy, recall, choiceAccuracy, answerLoss } = (answered as { lengths: RetrievalScores[] })
    .lengths[0]!;
  return { accuracy, recall, choiceAccuracy, answerLoss };
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
