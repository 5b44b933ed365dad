/** Gated DeltaNet layers in `config.json`, and how Qwen3-Next cuts their projections. */

import { z } from 'zod';
import type { LayerModel } from '../../layers.ts';
import { activeMixer } from '../../mixers/index.ts';
import type { TensorRun } from '../fileTensor.ts';
import { runsOfRows } from '../rowMaps.ts';
import type { Json } from './family.ts';
import { Size } from './readers.ts';

/** Keys of the classes of Qwen. */
export const LinearKeys = {
  linear_num_key_heads: Size.default(16),
  linear_num_value_heads: Size.default(32),
  linear_key_head_dim: Size.default(128),
  linear_value_head_dim: Size.default(128),
  linear_conv_kernel_dim: z.int().min(2).default(4),
};

interface Sizes {
  readonly linear_num_key_heads: number;
  readonly linear_num_value_heads: number;
  readonly linear_key_head_dim: number;
  readonly linear_value_head_dim: number;
  readonly linear_conv_kernel_dim: number;
}

/** The mixer of linear layers, whose states start as those of the classes do. */
export function gatedDeltaNet(keys: Sizes) {
  return {
    kind: 'gated-delta-net',
    keyHeads: keys.linear_num_key_heads,
    valueHeads: keys.linear_num_value_heads,
    keyDim: keys.linear_key_head_dim,
    valueDim: keys.linear_value_head_dim,
    taps: keys.linear_conv_kernel_dim,
    initialDecay: 'fast',
  } as const;
}

/** The settings of a layer that has this mixer. */
export function linearSettings(layer: LayerModel) {
  const active = activeMixer(layer);
  return active?.settings.kind === 'gated-delta-net' ? active.settings : undefined;
}

/** The keys of the first linear layer; none without such layers. */
export function writtenLinear(layers: readonly LayerModel[]): Json {
  const [settings] = layers.flatMap((layer) => linearSettings(layer) ?? []);
  if (!settings) return {};
  return {
    linear_num_key_heads: settings.keyHeads,
    linear_num_value_heads: settings.valueHeads,
    linear_key_head_dim: settings.keyDim,
    linear_value_head_dim: settings.valueDim,
    linear_conv_kernel_dim: settings.taps,
  };
}

/** The usual type of a layer. */
export function linearType(layer: LayerModel): 'linear_attention' | 'full_attention' {
  return activeMixer(layer) ? 'linear_attention' : 'full_attention';
}

/** The first layer with attention. */
export function firstFull(layers: readonly LayerModel[]): LayerModel {
  return layers.find((layer) => !activeMixer(layer)) ?? layers[0]!;
}

/** Types where `config.json` gives the distance of full layers alone. */
export function typesByInterval(depth: number, interval: number): string[] {
  return Array.from({ length: depth }, (_, i) =>
    (i + 1) % interval === 0 ? 'full_attention' : 'linear_attention',
  );
}

/** A tensor that others of ours go into, cut and mixed. */
export interface MixedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly runs: readonly TensorRun[];
}

/**
 * The projections of Qwen3-Next: for each key head its query, key, values and gates, and its βs and decays. The r = V/K value
 * heads of a key head are neighbours.
 * @param prefix of the layer’s tensors with us
 */
export function projectionsByKeyHead(layer: LayerModel, prefix: string): MixedTensor[] {
  const settings = linearSettings(layer);
  if (!settings) return [];
  const { keyHeads, valueHeads, keyDim, valueDim } = settings;
  const { hiddenSize } = layer;
  const ofOne = (valueHeads / keyHeads) * valueDim;
  const rows = (name: string, begin: number, count: number) =>
    runsOfRows(
      `${prefix}linear_attn.${name}.weight`,
      Array.from({ length: count }, (_, i) => begin + i),
      hiddenSize,
    );
  const heads = Array.from({ length: keyHeads }, (_, head) => head);
  const keys = keyHeads * keyDim;
  return [
    {
      name: 'linear_attn.in_proj_qkvz.weight',
      shape: [2 * keys + 2 * valueHeads * valueDim, hiddenSize],
      runs: heads.flatMap((head) => [
        ...rows('in_proj_qkv', head * keyDim, keyDim),
        ...rows('in_proj_qkv', keys + head * keyDim, keyDim),
        ...rows('in_proj_qkv', 2 * keys + head * ofOne, ofOne),
        ...rows('in_proj_z', head * ofOne, ofOne),
      ]),
    },
    {
      name: 'linear_attn.in_proj_ba.weight',
      shape: [2 * valueHeads, hiddenSize],
      runs: heads.flatMap((head) => {
        const ratio = valueHeads / keyHeads;
        return [...rows('in_proj_b', head * ratio, ratio), ...rows('in_proj_a', head * ratio, ratio)];
      }),
    },
  ];
}

/**
 * Projections and convolutions of queries, keys and values as tensors of their own.
 * @param block what they are called in within the layer
 * @param prefix of the layer’s tensors with us
 */
export function projectionsApart(
  block: string,
  { keys, values, taps }: { readonly keys: number; readonly values: number; readonly taps: number },
  { hiddenSize }: LayerModel,
  prefix: string,
): MixedTensor[] {
  const parts = [
    ['q', 0, keys],
    ['k', keys, keys],
    ['v', 2 * keys, values],
  ] as const;
  const cut = (name: string, begin: number, count: number, columns: number) =>
    runsOfRows(
      `${prefix}linear_attn.${name}.weight`,
      Array.from({ length: count }, (_, row) => begin + row),
      columns,
    );
  return parts.flatMap(([part, begin, count]) => [
    {
      name: `${block}.${part}_proj.weight`,
      shape: [count, hiddenSize],
      runs: cut('in_proj_qkv', begin, count, hiddenSize),
    },
    {
      name: `${block}.${part}_conv1d.weight`,
      shape: [count, 1, taps],
      runs: cut('conv1d', begin, count, taps),
    },
  ]);
}
