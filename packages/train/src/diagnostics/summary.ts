/**
 * The measurements of the paper, with its words' formulas (`paper §` is the section that names the quantity; where it gives
 * words only, the formula is ours).
 *
 * S is a head's attention, S[i, j] the weight that query i gives to token j; h_ℓ the residual stream after layer ℓ; Y the
 * output of attention before its gate, Y′ after it; n the tokens of a sequence, or of a document where these are kept apart,
 * for then tokens are counted from the document's first. Means are over everything that is not named:
 * sequences, tokens, heads, channels.
 */

import {
  activeMixer,
  attentionLayers,
  type ExpertsConfig,
  gatedTensor,
  hasRecurrence,
  layerModels,
  type MixerSettings,
  type ModelConfig,
  type ObservedGate,
  observedGates,
} from '@sluice/model';
import type { UpdateRatios } from '../updateSizes.ts';
import { attentionOutputGates, GATE_BINS, GATE_NUMBERS, type Tally } from './tally.ts';

/** Of values |y| (paper A.3, hidden mean and hidden sparsity): their mean, and the shares below 1e-2 and below 1e-3. */
export interface Magnitudes {
  readonly meanAbsolute: number;
  readonly belowHundredth: number;
  readonly belowThousandth: number;
}

/** Of the scores σ(XW) of one gate (paper §4.2), after activation and sharing. */
export interface GateDiagnostics extends ObservedGate {
  readonly mean: number;
  /** Share of scores below 0.05: of a gate that has closed, nearly all. Absent in measurements of older versions. */
  readonly belowTwentieth?: number;
  /** Share of scores below 0.1. */
  readonly belowTenth: number;
  /** Share of scores above 0.9. */
  readonly aboveNineTenths: number;
  /** Shares of scores in 50 bins over [0, 1]; what lies outside is in the first or the last. */
  readonly histogram: readonly number[];
  /** Of a layer: the norm of the weights of each head’s logits. */
  readonly weightNorms?: readonly number[];
  /** The largest of these; overall of all layers. Absent in measurements of older versions. */
  readonly largestWeightNorm?: number;
}

/** Hidden mean and hidden sparsity (paper A.3). */
export interface AttentionOutputDiagnostics {
  /** Of Y. */
  readonly before: Magnitudes;
  /**
   * Of Y·mean(σ), the paper's control: what scaling alone does, without choosing. mean(σ) is the layer's mean score over the
   * tokens, heads and channels of each sequence, so that it depends on no cut of the batch; of several gates the product of
   * their means. Null without a gate there, or with one that adds.
   */
  readonly withMeanScore: Magnitudes | null;
  /** Of Y′; the same as `before` without a gate there. */
  readonly after: Magnitudes;
}

/** Of the memory of gated delta rules (§ their paper): means over tokens and value heads. */
export interface RecurrenceDiagnostics {
  /** e^g, the share of the state that a token leaves of what was there. */
  readonly keptMean: number;
  /** Share of tokens and heads that leave less than a tenth, and of those that leave more than 99 %. */
  readonly keptBelowTenth: number;
  readonly keptAboveNinetyNine: number;
  /** β, how much of what is stored under a key a token replaces. */
  readonly betaMean: number;
}

/** What layers have of attention, activations and gates. What is of attention is null where no layer has any. */
interface CommonDiagnostics {
  /** F-Attn: mean of S[i, 0] over the queries i = 1 … n − 1. */
  readonly firstTokenAttention: number | null;
  /** The same with i = 0, whose weight is always 1 (unless attention may go to no token). */
  readonly firstTokenAttentionWithFirst: number | null;
  /** M-Act: max |h_ℓ| over tokens and channels; overall the mean over layers. */
  readonly massiveActivation: number;
  /** max |output of the feed-forward block, as it joins the residual stream|; overall the mean over layers. */
  readonly feedForwardActivation: number;
  /** Mean over gates of their mean score; null without a gate. */
  readonly gateScoreMean: number | null;
  readonly gates: readonly GateDiagnostics[];
  readonly attentionOutput: AttentionOutputDiagnostics | null;
  /** max q·k/√d over the tokens that queries see, before any cap; overall the largest of all layers. */
  readonly largestAttentionLogit: number | null;
  /** Mean over queries of −Σ_j S[i, j] ln S[i, j], nats. */
  readonly attentionEntropy: number | null;
  /** Where layers have a gated delta rule; overall the mean over those. */
  readonly recurrence?: RecurrenceDiagnostics;
  /**
   * ‖w_t − w_{t−1}‖₂ / ‖w_{t−1}‖₂ of the last optimizer step, weight decay included: of a layer over all its tensors, overall
   * over the whole model. Null where no step was taken before.
   */
  readonly updateRatio: number | null;
}

export interface RouterDiagnostics {
  /** Share of the routed tokens that each expert got. */
  readonly load: readonly number[];
  /** max load ÷ mean load − 1. */
  readonly maxViolation: number;
  /**
   * Mean over tokens of the entropy of the router's probabilities, nats; ln E when it has no preference. Sigmoids count divided
   * by their sum.
   */
  readonly entropy: number;
  /** Entropy of `load`, nats; ln E when balanced. */
  readonly loadEntropy: number;
  /** Experts that got none of these tokens. */
  readonly deadExperts: number;
  /** Mean over tokens of (ln Σ e^logit)². */
  readonly z: number;
  /** What balances the choice of each expert, where something does, and the largest of it less the smallest. */
  readonly bias?: readonly number[];
  readonly biasRange?: number;
}

export interface LayerDiagnostics extends CommonDiagnostics {
  readonly layer: number;
  /** What mixes the tokens, where it is not attention. */
  readonly mixer?: MixerSettings['kind'];
  /** `firstTokenAttention` of each head; empty without attention. */
  readonly firstTokenAttentionOfHeads: readonly number[];
  readonly router?: RouterDiagnostics;
}

/** Overall numbers are means over layers, of attention over those that have it, but for those that say otherwise. */
export interface Diagnostics extends CommonDiagnostics, MeasuredBatch {
  /** max |h_ℓ| over all layers. */
  readonly largestActivation: number;
  readonly largestFeedForwardActivation: number;
  /** Means over layers; of `deadExperts` the sum. */
  readonly router?: Omit<RouterDiagnostics, 'load' | 'bias'>;
  readonly layers: readonly LayerDiagnostics[];
}

/** What a tally was taken of. */
export interface MeasuredBatch {
  readonly sequences: number;
  readonly sequenceLength: number;
  /** Named where it is not the validation split: a run whose corpus holds nothing out is measured on what it trains on. */
  readonly split?: 'train';
}

export function summarize(
  model: ModelConfig,
  tally: Tally,
  batch: MeasuredBatch,
  updates?: Pick<UpdateRatios, 'overall' | 'layers'>,
): Diagnostics {
  const layers = Array.from({ length: model.numLayers }, (_, layer) =>
    layerDiagnostics(model, tally, batch, layer, updates?.layers[layer] ?? null),
  );
  const means = meanNumbers(layers, ['massiveActivation', 'feedForwardActivation']);
  const routers = layers.flatMap(({ router }) => router ?? []);
  const recurrences = layers.flatMap(({ recurrence }) => recurrence ?? []);
  return {
    ...batch,
    ...means,
    ...overAttention(model, layers),
    largestActivation: largest(layers.map((layer) => layer.massiveActivation)),
    largestFeedForwardActivation: largest(layers.map((layer) => layer.feedForwardActivation)),
    ...(recurrences.length > 0 && { recurrence: meanNumbers(recurrences, RECURRENCE_NUMBERS) }),
    updateRatio: updates?.overall ?? null,
    ...(routers.length > 0 && {
      router: {
        ...meanNumbers(routers, ['maxViolation', 'entropy', 'loadEntropy', 'z']),
        deadExperts: routers.reduce((sum, { deadExperts }) => sum + deadExperts, 0),
        ...(model.experts?.balanceBias && { biasRange: mean(routers.map(({ biasRange }) => biasRange!)) }),
      },
    }),
    layers,
  };
}

/** What is of attention, over the layers that have it. */
function overAttention(model: ModelConfig, all: readonly LayerDiagnostics[]): AttentionDiagnostics {
  const layers = attentionLayers(model).map((layer) => all[layer]! as LayerDiagnostics & Attending);
  if (layers.length === 0) return NO_ATTENTION;
  const outputs = layers.map(({ attentionOutput }) => attentionOutput);
  const isGated = attentionOutputGates(model).length > 0;
  const gates = observedGates(model);
  return {
    ...meanNumbers(layers, ['firstTokenAttention', 'firstTokenAttentionWithFirst', 'attentionEntropy']),
    gateScoreMean: gates.length === 0 ? null : mean(layers.map((layer) => layer.gateScoreMean!)),
    gates: gates.map((gate, i) =>
      meanGate(
        gate,
        layers.map(({ gates }) => gates[i]!),
      ),
    ),
    attentionOutput: {
      before: meanMagnitudes(outputs.map(({ before }) => before)),
      withMeanScore: isGated ? meanMagnitudes(outputs.map(({ withMeanScore }) => withMeanScore!)) : null,
      after: meanMagnitudes(outputs.map(({ after }) => after)),
    },
    largestAttentionLogit: largest(layers.map((layer) => layer.largestAttentionLogit)),
  };
}

type AttentionDiagnostics = Pick<
  CommonDiagnostics,
  | 'firstTokenAttention'
  | 'firstTokenAttentionWithFirst'
  | 'attentionEntropy'
  | 'gateScoreMean'
  | 'gates'
  | 'attentionOutput'
  | 'largestAttentionLogit'
>;

/** Of a layer with attention none is null, but the score of a gate that it may not have. */
type Attending = { readonly [Name in keyof AttentionDiagnostics]: NonNullable<AttentionDiagnostics[Name]> };

const NO_ATTENTION: AttentionDiagnostics = {
  firstTokenAttention: null,
  firstTokenAttentionWithFirst: null,
  attentionEntropy: null,
  gateScoreMean: null,
  gates: [],
  attentionOutput: null,
  largestAttentionLogit: null,
};

const RECURRENCE_NUMBERS = ['keptMean', 'keptBelowTenth', 'keptAboveNinetyNine', 'betaMean'] as const;

function recurrenceDiagnostics([kept, count, below, above, beta]: Float64Array): RecurrenceDiagnostics {
  return {
    keptMean: kept! / count!,
    keptBelowTenth: below! / count!,
    keptAboveNinetyNine: above! / count!,
    betaMean: beta! / count!,
  };
}

function layerDiagnostics(
  model: ModelConfig,
  tally: Tally,
  { sequences, sequenceLength }: MeasuredBatch,
  layer: number,
  updateRatio: number | null,
): LayerDiagnostics {
  const at = (name: string) => tally.at(layer, name);
  const own = layerModels(model)[layer]!;
  const { numAttentionHeads: heads, experts } = own;
  const tokens = sequences * sequenceLength;
  const common = {
    layer,
    massiveActivation: at('layerOutput')[0]!,
    feedForwardActivation: at('feedForwardOutput')[0]!,
    updateRatio,
    ...(experts && { router: routerDiagnostics(experts, at, tokens) }),
  };
  const mixer = activeMixer(own)?.settings.kind;
  if (mixer !== undefined) {
    const recurrence = hasRecurrence(own) && recurrenceDiagnostics(at('recurrence'));
    const ofMixer = { ...NO_ATTENTION, firstTokenAttentionOfHeads: [], mixer };
    return { ...common, ...ofMixer, ...(recurrence && { recurrence }) };
  }
  const ofHeads = (name: string) => [...at(name).subarray(0, heads)];
  const laterQueries = tokens - at('documents')[0]!;
  const firstToken = ofHeads('firstToken');
  const withFirst = firstToken.map((sum, head) => sum + at('firstQuery')[head]!);
  const gates = observedGates(model).map((gate) => {
    const { heads: gated } = gatedTensor(gate.position, own);
    const norms = [...at(`weights of gate ${gate.name}`).subarray(0, gated)];
    return gateDiagnostics(gate, at(`gate ${gate.name}`), norms);
  });
  const channels = own.keyValueLatent?.valueDim ?? model.headDim;
  const magnitudes = (name: string) => magnitudesOf(at(name), tokens * heads * channels);
  return {
    ...common,
    firstTokenAttention: mean(firstToken) / laterQueries,
    firstTokenAttentionWithFirst: mean(withFirst) / tokens,
    firstTokenAttentionOfHeads: firstToken.map((sum) => sum / laterQueries),
    gateScoreMean: gates.length === 0 ? null : mean(gates.map((gate) => gate.mean)),
    gates,
    attentionOutput: {
      before: magnitudes('attentionOutput'),
      withMeanScore: attentionOutputGates(model).length > 0 ? magnitudes('meanGatedAttentionOutput') : null,
      after: magnitudes('gatedAttentionOutput'),
    },
    largestAttentionLogit: largest(ofHeads('largestLogit')),
    attentionEntropy: mean(ofHeads('attentionEntropy')) / tokens,
  };
}

function gateDiagnostics(
  gate: ObservedGate,
  numbers: Float64Array,
  weightNorms: readonly number[],
): GateDiagnostics {
  const [sum, count, closed, below, above] = [...numbers.subarray(0, GATE_NUMBERS)] as [
    number,
    number,
    number,
    number,
    number,
  ];
  return {
    ...gate,
    mean: sum / count,
    belowTwentieth: closed / count,
    belowTenth: below / count,
    aboveNineTenths: above / count,
    histogram: Array.from(numbers.subarray(GATE_NUMBERS), (scores) => scores / count),
    weightNorms,
    largestWeightNorm: largest(weightNorms),
  };
}

function meanGate(gate: ObservedGate, layers: readonly GateDiagnostics[]): GateDiagnostics {
  return {
    ...gate,
    ...meanNumbers(layers as (GateDiagnostics & { belowTwentieth: number })[], [
      'mean',
      'belowTwentieth',
      'belowTenth',
      'aboveNineTenths',
    ]),
    largestWeightNorm: largest(layers.map(({ largestWeightNorm }) => largestWeightNorm!)),
    histogram: Array.from({ length: GATE_BINS }, (_, bin) =>
      mean(layers.map(({ histogram }) => histogram[bin]!)),
    ),
  };
}

function magnitudesOf([sum, hundredth, thousandth]: Float64Array, count: number): Magnitudes {
  return {
    meanAbsolute: sum! / count,
    belowHundredth: hundredth! / count,
    belowThousandth: thousandth! / count,
  };
}

function meanMagnitudes(layers: readonly Magnitudes[]): Magnitudes {
  return meanNumbers(layers, ['meanAbsolute', 'belowHundredth', 'belowThousandth']);
}

function routerDiagnostics(
  { balanceBias }: ExpertsConfig,
  at: (name: string) => Float64Array,
  tokens: number,
): RouterDiagnostics {
  const bias = balanceBias && [...at('routerBias')];
  const counts = [...at('expertCounts')];
  const routed = counts.reduce((sum, count) => sum + count, 0);
  const load = counts.map((count) => count / routed);
  return {
    load,
    maxViolation: largest(load) * load.length - 1,
    entropy: at('routerEntropy')[0]! / tokens,
    loadEntropy: load.reduce((sum, share) => (share > 0 ? sum - share * Math.log(share) : sum), 0),
    deadExperts: counts.filter((count) => count === 0).length,
    z: at('routerZ')[0]! / tokens,
    ...(bias && { bias, biasRange: largest(bias) + largest(bias.map((value) => -value)) }),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
}

/** The mean of each of the fields. */
function meanNumbers<Field extends string>(
  items: readonly Readonly<Record<Field, number>>[],
  fields: readonly Field[],
): Record<Field, number> {
  const entries = fields.map((field) => [field, mean(items.map((item) => item[field]))] as const);
  return Object.fromEntries(entries) as Record<Field, number>;
}
