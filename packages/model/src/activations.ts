/**
 * The tensors that a forward pass keeps for its backward pass on the native backend, and those that are there besides at
 * the moment when most is: what `sluice plan` predicts memory from. A test holds it against measured peaks.
 *
 * All tensors have N rows, one for each token of a grain; only their widths are given.
 */

import type { ModelConfig } from './config.ts';
import { keptControlWidths } from './controls/index.ts';
import { keptGateWidths } from './gates/gate.ts';
import { projectionWidths } from './parameters.ts';
import { blockVariants } from './variants.ts';

export interface ActivationWidths {
  /** Kept by each layer. */
  readonly layer: readonly number[];
  /** There besides when the backward pass begins: either of the two lists, whichever is more. */
  readonly peaks: readonly (readonly number[])[];
}

export function activationWidths(model: ModelConfig): ActivationWidths {
  const { hiddenSize } = model;
  return {
    layer: [...attentionWidths(model), ...feedForwardWidths(model)],
    peaks: [
      // The loss: the last layer's output, its norm, and the gradient of that.
      [hiddenSize, hiddenSize, hiddenSize],
      // The last layer's feed-forward: the gradient that comes in, that of its hidden units, and that of its input.
      [hiddenSize, ...feedForwardGradientWidths(model)],
    ],
  };
}

/** Input, its norm, projection, queries, keys, values, gate, output, log-sum-exp; then the residual stream and its norm. */
function attentionWidths(model: ModelConfig): number[] {
  const { hiddenSize, numAttentionHeads, numKeyValueHeads, headDim } = model;
  const { query } = projectionWidths(model);
  const variants = blockVariants(model);
  const queries = numAttentionHeads * headDim;
  const keys = numKeyValueHeads * headDim;
  return [
    ...[hiddenSize, hiddenSize],
    // A projection that is taken apart and put together again is kept in both forms.
    ...Array<number>(variants.isProjectionShaped ? 2 : 1).fill(query + 2 * keys),
    ...[queries, keys, keys, query - queries],
    ...(variants.isGateOutsideAttention ? [queries] : []),
    ...[queries, numAttentionHeads],
    ...variants.gates.flatMap((gate) => keptGateWidths(gate, model)),
    ...keptControlWidths(model),
    ...[hiddenSize, hiddenSize],
  ];
}

/** What both feed-forward layers keep: the values before their activation, and what routing needs. */
function feedForwardWidths({ hiddenSize, intermediateSize, experts }: ModelConfig): number[] {
  if (!experts) return [2 * intermediateSize!];
  const { count, topK, intermediateSize: inner, sharedIntermediateSize } = experts;
  const routed = [topK * hiddenSize, 2 * topK * inner, topK * hiddenSize];
  return [count, topK, ...routed, 2 * sharedIntermediateSize];
}

function feedForwardGradientWidths({ hiddenSize, intermediateSize, experts }: ModelConfig): number[] {
  if (!experts) return [intermediateSize!, hiddenSize];
  const { topK, intermediateSize: inner, sharedIntermediateSize } = experts;
  const shared = sharedIntermediateSize > 0 ? [hiddenSize] : [];
  return [topK * inner, topK * hiddenSize, topK, ...shared];
}
