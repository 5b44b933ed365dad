/** What writing a `config.json` has alike in all families, and the keys that the plain layouts have too. */

import type { ModelConfig } from '../../config.ts';
import type { LayerModel } from '../../layers.ts';
import { exportRopeScaling } from '../rope.ts';
import type { Json } from './family.ts';

/** The keys that every layout has. */
export function writtenCommon(model: ModelConfig): Json {
  return {
    vocab_size: model.vocabularySize,
    hidden_size: model.hiddenSize,
    num_hidden_layers: model.numLayers,
    num_attention_heads: model.numAttentionHeads,
    num_key_value_heads: model.numKeyValueHeads,
    head_dim: model.headDim,
    initializer_range: model.initializerRange,
    tie_word_embeddings: model.tieWordEmbeddings,
    attention_bias: false,
    attention_dropout: 0,
  };
}

/**
 * For families whose classes have the tokens of the released tokenizer where nothing is said, beyond the vocabulary of a smaller
 * model; what the model's own tokenizer says comes over these.
 */
export const NO_TOKENS: Json = { bos_token_id: null, eos_token_id: null, pad_token_id: null };

/** The rotary embedding of a layer. @param defaultShare of a head that turns where nothing is written */
export function writtenRope(layer: LayerModel, defaultShare = 1): Json {
  const { headDim, rotaryDim = headDim, ropeTheta, ropeScaling } = layer;
  const share = rotaryDim / headDim;
  return {
    rope_type: 'default',
    rope_theta: ropeTheta,
    ...(share !== defaultShare && { partial_rotary_factor: share }),
    ...exportRopeScaling(ropeScaling),
  };
}

/** The same as versions 4 of `transformers` read it, which know no `rope_parameters`; later ones read it too. */
export function writtenOldRope({ headDim, rotaryDim = headDim, ropeTheta, ropeScaling }: LayerModel): Json {
  return {
    rope_theta: ropeTheta,
    rope_scaling: exportRopeScaling(ropeScaling),
    partial_rotary_factor: rotaryDim / headDim,
  };
}

/** The usual names of the types of attention layers. */
export const ATTENTION_TYPES = ['full_attention', 'sliding_attention'] as const;

export type AttentionType = (typeof ATTENTION_TYPES)[number];

/** The usual name of a layer's type. */
export function attentionType({ window }: LayerModel): AttentionType {
  return window === undefined ? 'full_attention' : 'sliding_attention';
}

/** What families have by the types of their layers, where each type has a rotary embedding of its own. */
export function writtenTypes(layers: readonly LayerModel[]): Json {
  return {
    rope_parameters: Object.fromEntries(
      ATTENTION_TYPES.map((type) => [type, writtenRope(firstOf(layers, type))]),
    ),
    layer_types: layers.map(attentionType),
    mlp_layer_types: layers.map(({ experts }) => (experts ? 'sparse' : 'dense')),
  };
}

/** The first layer of a type, or any where there is none. */
export function firstOf(layers: readonly LayerModel[], type: AttentionType): LayerModel {
  return layers.find((layer) => attentionType(layer) === type) ?? layers[0]!;
}

/** The window of those layers that have one. */
export function windowOf(layers: readonly LayerModel[]): number | undefined {
  return layers.find(({ window }) => window !== undefined)?.window;
}
