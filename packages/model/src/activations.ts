/**
 * The tensors that a forward pass keeps for its backward pass, and those that are there besides at the moment when most is: what
 * `sluice plan` predicts memory from. A test holds it against measured peaks.
 *
 * All tensors have N rows, one for each token of a grain; only their widths are given.
 */

import type { ModelConfig } from './config.ts';
import { controlCaps, controlGradientWidths, keptControlWidths } from './controls/index.ts';
import { keptGateWidths } from './gates/gate.ts';
import { latentWidths } from './latentAttention.ts';
import { type LayerModel, layerModels } from './layers.ts';
import { activeMixer } from './mixers/index.ts';
import type { MixerWidths, RulePass } from './mixers/mixer.ts';
import { projectionWidths } from './parameters.ts';
import { blockVariants } from './variants.ts';
import type { Width } from './widths.ts';

/** Of one layer. */
export interface ActivationWidths {
  /** Kept while the layers above are computed. */
  readonly layer: readonly Width[];
  /** There for the layer, and besides, at the moments when most may be: whichever is more. */
  readonly peaks: readonly (readonly Width[])[];
  /** Of a device: the moment when the gradients of a delta rule are formed, whose kernels work in memory besides. */
  readonly rulePass?: RulePass | undefined;
}

/** Most numbers that a thread of the native backend works in beside tensors, of what grows with the sequence. */
export function scratchElements(model: ModelConfig, sequenceLength: number): number {
  const ofLayers = layerModels(model).map((layer) => {
    const active = activeMixer(layer);
    return active?.mixer.scratch?.(active.settings, sequenceLength) ?? 0;
  });
  return Math.max(...ofLayers);
}

/** What a device keeps of the embedding besides the first layer's input: what was scaled to become that. */
export function embeddingWidths({ embeddingScaling, hiddenSize }: ModelConfig): Width[] {
  return embeddingScaling === undefined ? [] : [hiddenSize];
}

/** What widths depend on besides the model. */
export interface ActivationSettings {
  /** Tokens of a sequence. */
  readonly sequenceLength: number;
  /** Whether some of the experts are other workers'. */
  readonly areExpertsShared: boolean;
  /** Whether a device computes: what kernels there keep, and work in. */
  readonly isOnDevice: boolean;
}

/** Of each layer, from the first to the last. */
export function activationWidths(model: ModelConfig, settings: ActivationSettings): ActivationWidths[] {
  return layerModels(model).map((layer) => layerWidths(layer, settings));
}

function layerWidths(model: LayerModel, settings: ActivationSettings): ActivationWidths {
  const { sequenceLength, areExpertsShared, isOnDevice } = settings;
  const { hiddenSize } = model;
  const active = activeMixer(model);
  if (active) {
    const rulePass = isOnDevice ? active.mixer.rulePass?.(active.settings, model) : undefined;
    return { ...mixerLayerWidths(model, active.mixer.widths(active.settings, model), settings), rulePass };
  }
  const attention = [...keptByAttention(model), ...keptByVariants(model)];
  const feedForward = keptByFeedForward(model, settings);
  const layer = [...attention, ...feedForward];
  const heads = headWidths(model);
  const projection = projectionWidth(model);
  const queries = model.numAttentionHeads * model.headDim;
  return {
    layer,
    peaks: [
      // The loss: the last layer's output, its norm, and the gradient of that.
      [...layer, hiddenSize, hiddenSize, hiddenSize],
      // Feed-forward: the gradient that comes in, the input once more, and the gradients within and of the input.
      [...layer, hiddenSize, hiddenSize, ...feedForwardGradients(model, areExpertsShared)],
      // Attention: the gradient beside it, the heads once more, and the gradient of the output. On a device, that before the gate, and those
      // of keys and values, are in memory of their own.
      [...attention, hiddenSize, ...heads, queries, ...(isOnDevice ? [queries, heads[1]!, heads[2]!] : [])],
      // The gradients of the heads, beside them what they are made of, and its gradient.
      [...attention, hiddenSize, ...heads, projection],
      ...(isOnDevice
        ? [
            // The end of the forward pass: what its operations gave, whether or not a gradient needs it.
            [...layer, ...forwardWidths(model)],
            // The gradients of controls, which are plain operations.
            [...layer, hiddenSize, ...controlGradientWidths(model)],
          ]
        : []),
      // A device's kernel caps them.
      ...(isOnDevice || controlCaps(model).attention === undefined
        ? []
        : [[...attention, ...heads, ...cappedScores(model, sequenceLength)]]),
    ],
  };
}

/** What attention projects before that is taken apart, what it gives, what the feed-forward takes, and its activated rows. */
function forwardWidths(model: LayerModel): Width[] {
  const { hiddenSize, intermediateSize, experts, keyValueLatent } = model;
  const { query, total } = projectionWidths(model);
  const takenApart = keyValueLatent
    ? [query + keyValueLatent.rank + keyValueLatent.sharedKeyDim]
    : blockVariants(model).isProjectionShaped
      ? [total]
      : [];
  return [
    ...takenApart,
    ...[hiddenSize, hiddenSize],
    experts ? experts.topK * experts.intermediateSize : intermediateSize!,
  ];
}

/** Of a layer with another mixer than attention. */
function mixerLayerWidths(
  model: LayerModel,
  { kept, gradients }: MixerWidths,
  settings: ActivationSettings,
): ActivationWidths {
  const { areExpertsShared } = settings;
  const { hiddenSize } = model;
  const mixing = [hiddenSize, ...kept, hiddenSize, ...keptControlWidths(model), ...keptByNorms(model)];
  const layer = [...mixing, ...keptByFeedForward(model, settings)];
  return {
    layer,
    peaks: [
      [...layer, hiddenSize, hiddenSize, hiddenSize],
      [...layer, hiddenSize, hiddenSize, ...feedForwardGradients(model, areExpertsShared)],
      [...mixing, hiddenSize, ...gradients],
    ],
  };
}

/** Scores of a layer that no kernel caps, in the forms that plain operations go through, with the heads repeated, and a gate. */
function cappedScores(model: LayerModel, sequenceLength: number): number[] {
  const queries = model.numAttentionHeads * model.headDim;
  return [
    ...Array(9).fill(model.numAttentionHeads * sequenceLength),
    ...Array(3).fill(queries),
    projectionWidths(model).query - queries,
  ];
}

function projectionWidth(model: LayerModel): number {
  const { query } = projectionWidths(model);
  return query + 2 * model.numKeyValueHeads * model.headDim;
}

/** Queries, keys, values, and an interleaved gate: computed once more from the projection when their gradients need them. */
function headWidths(model: LayerModel): number[] {
  const queries = model.numAttentionHeads * model.headDim;
  const keys = model.numKeyValueHeads * model.headDim;
  return [queries, keys, keys, projectionWidths(model).query - queries];
}

/** A layer's input, the projection, the output and the log-sum-exp of attention, and the residual stream after it. */
function keptByAttention(model: LayerModel): Width[] {
  const { hiddenSize, numAttentionHeads, headDim } = model;
  return [
    hiddenSize,
    projectionWidth(model),
    numAttentionHeads * headDim,
    { words: numAttentionHeads },
    hiddenSize,
    ...keptByLatent(model),
  ];
}

/** The parts of what is projected, the latent after its norm, what is made of it, and the output without what fills values up. */
function keptByLatent({ keyValueLatent, ...model }: LayerModel): Width[] {
  if (!keyValueLatent) return [];
  const { rank, sharedKeyDim, valueDim } = keyValueLatent;
  const { query } = projectionWidths(model);
  const heads = model.numAttentionHeads;
  const made = heads * latentWidths({ ...model, keyValueLatent }).row;
  return [query, rank, sharedKeyDim, rank, made, heads * valueDim];
}

function keptByVariants(model: LayerModel): Width[] {
  const { gates, isProjectionShaped, isGateOutsideAttention } = blockVariants(model);
  const shaped = projectionWidth(model);
  return [
    ...keptByJointNorms(model),
    ...keptByNorms(model),
    ...gates.flatMap((gate) => keptGateWidths(gate, model)),
    ...keptControlWidths(model),
    // A projection that is taken apart and put together again is kept in both forms.
    ...(isProjectionShaped ? [shaped] : []),
    // What comes out of the gate; what goes in is kept in any case.
    ...(isGateOutsideAttention ? [model.numAttentionHeads * model.headDim] : []),
  ];
}

/** What norms of all heads together get, and the queries with their gates in the forms before and after they are taken apart. */
function keptByJointNorms(model: LayerModel): number[] {
  const { qkNorm, numAttentionHeads, numKeyValueHeads, headDim } = model;
  if (qkNorm !== 'all-heads') return [];
  const queries = numAttentionHeads * headDim;
  const { query } = projectionWidths(model);
  return [queries, numKeyValueHeads * headDim, ...(query > queries ? [query, query] : [])];
}

/** What norms behind blocks get; what those before blocks get is kept in any case. */
function keptByNorms({ normPlacement, hiddenSize }: LayerModel): number[] {
  return normPlacement === 'after' ? [hiddenSize, hiddenSize] : [];
}

/** What the feed-forward layers keep: the values before their activation, and what routing needs. */
function keptByFeedForward(
  { hiddenSize, intermediateSize, experts }: LayerModel,
  { areExpertsShared, isOnDevice }: ActivationSettings,
): Width[] {
  // A device keeps what its norms have divided by.
  const norms = isOnDevice ? [{ words: 1 }, { words: 1 }] : [];
  if (!experts) return [...norms, 2 * intermediateSize!];
  const { count, topK, intermediateSize: inner, sharedIntermediateSize, sharedGate } = experts;
  // Rows for experts are gathered once more, those that came from other workers are kept.
  const received = areExpertsShared ? [topK * hiddenSize] : [];
  // Logits and weights; on a device also who was chosen, and where their rows are.
  const routing = [{ words: count }, { words: topK }, ...(isOnDevice ? Array(3).fill({ words: topK }) : [])];
  return [
    ...[...norms, ...routing, ...received],
    ...[2 * topK * inner, topK * hiddenSize, 2 * sharedIntermediateSize],
    // What the gate of the shared expert gates, and its logits; the host frees them.
    ...(sharedGate && isOnDevice ? [hiddenSize, 1] : []),
  ];
}

function feedForwardGradients(
  { hiddenSize, intermediateSize, experts }: LayerModel,
  areExpertsShared: boolean,
): number[] {
  if (!experts) return [intermediateSize!, hiddenSize];
  const { topK, intermediateSize: inner, sharedIntermediateSize } = experts;
  const shared = sharedIntermediateSize > 0 ? [hiddenSize] : [];
  const gathered = areExpertsShared ? [] : [topK * hiddenSize];
  return [topK * inner, topK * hiddenSize, topK, ...gathered, ...shared];
}
