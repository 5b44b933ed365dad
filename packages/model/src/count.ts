/** Counting parameters and floating-point operations. */

import type { ModelConfig } from './config.ts';
import { idleControlParameters } from './controls/index.ts';
import { type LayerModel, layerModels } from './layers.ts';
import { activeMixer } from './mixers/index.ts';
import { layerParameters, outerParameters, type ParameterSpec, projectionWidths } from './parameters.ts';

export interface ParameterCount {
  /** All parameters; a tied embedding counts once. */
  readonly total: number;
  /** Those that one token passes through: all but the experts (of the feed-forward layer, of switched heads) that it is not sent to. */
  readonly active: number;
  /** Rows of the input embedding. */
  readonly embedding: number;
  readonly byPart: Readonly<
    Record<'embedding' | 'attention' | 'gate' | 'feedForward' | 'router' | 'norms' | 'head', number>
  >;
}

type Part = keyof ParameterCount['byPart'];

function partOf(name: string): Part {
  if (name.startsWith('model.embed_tokens')) return 'embedding';
  if (name.startsWith('lm_head')) return 'head';
  if (name.includes('norm')) return 'norms';
  if (/\.self_attn\.\w+_gate/.test(name)) return 'gate';
  if (/\.linear_attn\.(in_proj_z|g_[ab]_proj)\./.test(name)) return 'gate';
  if (/\.(self_attn|linear_attn|conv)\./.test(name)) return 'attention';
  if (name.includes('.mlp.gate.')) return 'router';
  return 'feedForward';
}

export function countParameters(model: ModelConfig): ParameterCount {
  const byPart: Record<Part, number> = {
    embedding: 0,
    attention: 0,
    gate: 0,
    feedForward: 0,
    router: 0,
    norms: 0,
    head: 0,
  };
  let total = 0;
  let idle = 0;
  const count = (specs: readonly ParameterSpec[], times: number) => {
    for (const { name, size } of specs.flatMap(({ tensors }) => tensors)) {
      byPart[partOf(name)] += times * size;
      total += times * size;
    }
  };
  count(outerParameters(model), 1);
  const layers = layerModels(model);
  // Layers of a kind have the same.
  for (const layer of new Set(layers)) {
    const times = layers.filter((other) => other === layer).length;
    count(layerParameters(layer, 0), times);
    idle += times * idleParameters(layer);
    if (activeMixer(layer)) continue;
    // The rows of an interleaved gate live inside q_proj.
    const ungatedQuery = layer.numAttentionHeads * layer.headDim;
    const interleaved = times * (projectionWidths(layer).query - ungatedQuery) * layer.hiddenSize;
    byPart.gate += interleaved;
    byPart.attention -= interleaved;
  }
  const active = total - idle;
  return { total, active, embedding: byPart.embedding, byPart };
}

/** Parameters of a layer that one token does not pass through. */
function idleParameters(layer: LayerModel): number {
  const { experts, hiddenSize } = layer;
  const idle = experts ? (experts.count - experts.topK) * 3 * hiddenSize * experts.intermediateSize : 0;
  return idle + idleControlParameters(layer);
}

/**
 * Floating-point operations of forward and backward for one token: 6 for each active parameter that is multiplied by
 * (all but the embedding table, which is only looked up, though a tied one is also the output projection), and for
 * each layer 6·T·heads·D for causal attention (half of the full square, two products, three passes), of a window what it leaves of
 * that, or what its mixer does with its state.
 */
export function flopsPerToken(model: ModelConfig, sequenceLength: number): number {
  const { active, embedding } = countParameters(model);
  const multiplied = model.tieWordEmbeddings ? active : active - embedding;
  const mixing = layerModels(model).reduce((sum, layer) => sum + mixingOperations(layer, sequenceLength), 0);
  return 6 * multiplied + mixing;
}

function mixingOperations(layer: LayerModel, sequenceLength: number): number {
  const active = activeMixer(layer);
  if (active) return active.mixer.operations?.(active.settings) ?? 0;
  const window = Math.min(layer.window ?? sequenceLength, sequenceLength);
  // Tokens that a query sees in the mean; half of the sequence without a window.
  const seen = window * (1 - window / (2 * sequenceLength));
  const { numAttentionHeads, headDim, keyValueLatent } = layer;
  return 6 * seen * numAttentionHeads * (headDim + (keyValueLatent?.valueDim ?? headDim));
}
