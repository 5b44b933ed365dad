/** Layers of Gated DeltaNet in the families that have them: what `config.json` calls their sizes, and how their tensors are cut. */

import { z } from 'zod';
import type { ModelConfig } from '../../config.ts';
import { type LayerModel, layerModels } from '../../layers.ts';
import type { MixerSettings } from '../../mixers/index.ts';
import { honoured, type KeyRule } from '../keyRules.ts';
import { runsOfRows } from '../rowMaps.ts';
import type { JoinedTensor, Json } from './family.ts';
import { Size } from './readers.ts';

type DeltaNet = Extract<MixerSettings, { readonly kind: 'gated-delta-net' }>;

/** The type that `layer_types` has for them. */
export const LINEAR = 'linear_attention';

export const LINEAR_KEYS: Readonly<Record<string, KeyRule>> = {
  linear_num_key_heads: honoured('mixer.keyHeads'),
  linear_num_value_heads: honoured('mixer.valueHeads'),
  linear_key_head_dim: honoured('mixer.keyDim'),
  linear_value_head_dim: honoured('mixer.valueDim'),
  linear_conv_kernel_dim: honoured('mixer.taps'),
};

/** With the defaults of Qwen's classes. */
export const LinearKeys = z.object({
  linear_num_key_heads: Size.default(16),
  linear_num_value_heads: Size.default(32),
  linear_key_head_dim: Size.default(128),
  linear_value_head_dim: Size.default(128),
  linear_conv_kernel_dim: z.int().min(2).default(4),
});

export function linearMixer(keys: z.infer<typeof LinearKeys>, more: Partial<DeltaNet> = {}): DeltaNet {
  return {
    kind: 'gated-delta-net',
    keyHeads: keys.linear_num_key_heads,
    valueHeads: keys.linear_num_value_heads,
    keyDim: keys.linear_key_head_dim,
    valueDim: keys.linear_value_head_dim,
    taps: keys.linear_conv_kernel_dim,
    initialDecay: 'fast',
    ...more,
  };
}

/** The settings of a layer that is linear. */
export function deltaNetOf({ mixer }: LayerModel): DeltaNet | undefined {
  return mixer?.kind === 'gated-delta-net' ? mixer : undefined;
}

/** The sizes of the first linear layer; nothing for a model that has none. */
export function writtenLinear(model: ModelConfig): Json {
  const first = layerModels(model).find(deltaNetOf);
  if (!first) return {};
  const { keyHeads, valueHeads, keyDim, valueDim, taps } = deltaNetOf(first)!;
  return {
    linear_num_key_heads: keyHeads,
    linear_num_value_heads: valueHeads,
    linear_key_head_dim: keyDim,
    linear_value_head_dim: valueDim,
    linear_conv_kernel_dim: taps,
  };
}

/** `layer_types` of a family whose layers are linear or have full attention. */
export function writtenTypes(model: ModelConfig): string[] {
  return layerModels(model).map((layer) => (deltaNetOf(layer) ? LINEAR : 'full_attention'));
}

/**
 * Qwen3-Next's projections: for each key head its queries, its keys, and of its value heads the values and then the gates; and the
 * logits of β and then of the decay of its value heads.
 */
export function joinedByKeyHead(layer: LayerModel): JoinedTensor[] {
  const settings = deltaNetOf(layer);
  if (!settings) return [];
  const { keyHeads, valueHeads, keyDim, valueDim } = settings;
  const { hiddenSize } = layer;
  const [group, keys] = [valueHeads / keyHeads, keyHeads * keyDim];
  const perHead = (runs: (head: number) => (readonly [tensor: string, begin: number, rows: number])[]) =>
    Array.from({ length: keyHeads }, (_, head) => runs(head))
      .flat()
      .flatMap(([tensor, begin, count]) => {
        const rows = Array.from({ length: count }, (_, row) => begin + row);
        return runsOfRows(`linear_attn.in_proj_${tensor}.weight`, rows, hiddenSize);
      });
  const values = group * valueDim;
  return [
    {
      name: 'linear_attn.in_proj_qkvz.weight',
      shape: [2 * keys + 2 * valueHeads * valueDim, hiddenSize],
      runs: perHead((head) => [
        ['qkv', head * keyDim, keyDim],
        ['qkv', keys + head * keyDim, keyDim],
        ['qkv', 2 * keys + head * values, values],
        ['z', head * values, values],
      ]),
    },
    {
      name: 'linear_attn.in_proj_ba.weight',
      shape: [2 * valueHeads, hiddenSize],
      runs: perHead((head) => [
        ['b', head * group, group],
        ['a', head * group, group],
      ]),
    },
  ];
}
