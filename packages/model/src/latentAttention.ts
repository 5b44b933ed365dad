/**
 * Keys and values that are made of a latent (multi-head latent attention, DeepSeek-V2, arXiv 2405.04434 §2.1): the input is projected
 * to a few channels, and these, after a norm, to the keys and values of all heads. The last channels of keys are projected from the
 * input, and all heads have the same. The names of tensors are those of DeepSeek-V3 and Kimi-Linear.
 *
 * Shapes: N tokens, C hidden; H heads of D channels of a query or key, of which S are shared, and V of a value; R channels of the
 * latent.
 */

import { positiveFloat32 } from '@sluice/core';
import { linear, recomputed, rmsNorm } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import type { BlockContext } from './block.ts';
import { blockControls, type ControlConfig } from './controls/index.ts';
import type { GateConfig } from './gates/config.ts';

export const KeyValueLatentConfig = z.strictObject({
  rank: z.int().min(1).describe('Channels of the latent.'),
  sharedKeyDim: z
    .int()
    .min(0)
    .describe('Channels of each key that all heads have in common, the last ones of headDim.'),
  valueDim: z.int().min(1).describe('Channels of a value; at most headDim.'),
  normEps: positiveFloat32()
    .optional()
    .describe('Added to the mean square in the norm of the latent; rmsNormEps when left out.'),
});

export type KeyValueLatentConfig = z.infer<typeof KeyValueLatentConfig>;

/** Where keys and values come from, in a model and in a kind of its layers. */
export const LATENT_FIELDS = {
  keyValueLatent: KeyValueLatentConfig.optional().describe(
    'Makes keys and values of a latent (multi-head latent attention); of projections of their own when left out.',
  ),
};

/** The sizes of a layer with such keys and values. */
export interface LatentSizes {
  readonly numAttentionHeads: number;
  readonly headDim: number;
  readonly rmsNormEps: number;
  readonly keyValueLatent: KeyValueLatentConfig;
}

export const LATENT_NAMES = {
  latent: 'self_attn.kv_a_proj_with_mqa.weight',
  norm: 'self_attn.kv_a_layernorm.weight',
  keysAndValues: 'self_attn.kv_b_proj.weight',
};

/** Channels of a head's key that are made of the latent, and, of all of them, how many rows each head has in `kv_b_proj`. */
export function latentWidths({ headDim, keyValueLatent: { sharedKeyDim, valueDim } }: LatentSizes): {
  own: number;
  row: number;
} {
  const own = headDim - sharedKeyDim;
  return { own, row: own + valueDim };
}

/**
 * What attention takes: queries with their gates as they are projected, keys, and values, which zeros fill up to headDim.
 * @param queryWidth columns of queries with their gates
 * @param projected_NP [N, queryWidth + R + S]: these, the latent, and what keys share
 * @returns [N, queryWidth + 2·H·D]
 */
export function latentProjection(
  projected_NP: tf.Tensor2D,
  queryWidth: number,
  sizes: LatentSizes,
  context: BlockContext,
): tf.Tensor2D {
  const { numAttentionHeads: heads, headDim, rmsNormEps, keyValueLatent } = sizes;
  const { rank, sharedKeyDim, valueDim, normEps = rmsNormEps } = keyValueLatent;
  const { own, row } = latentWidths(sizes);
  const [query_NQ, latent_NR, shared_NS] = tf.split(projected_NP, [queryWidth, rank, sharedKeyDim], 1) as [
    tf.Tensor2D,
    tf.Tensor2D,
    tf.Tensor2D,
  ];
  const normed_NR = rmsNorm(latent_NR, context.gain(LATENT_NAMES.norm), normEps);
  const made_NM = linear(normed_NR, context.parameter(LATENT_NAMES.keysAndValues));
  return recomputed([query_NQ, made_NM, shared_NS], (query, made, shared) => {
    const tokens = made!.shape[0]!;
    const [ownKey, value] = tf.split(tf.reshape(made!, [tokens, heads, row]), [own, valueDim], 2);
    const sharedKey = tf.tile(tf.reshape(shared!, [tokens, 1, sharedKeyDim]), [1, heads, 1]);
    const filling = tf.fill([tokens, heads, headDim - valueDim], 0);
    const flat = (x: tf.Tensor) => tf.reshape(x, [tokens, heads * headDim]);
    const parts = [query!, flat(tf.concat([ownKey!, sharedKey], 2)), flat(tf.concat([value!, filling], 2))];
    return tf.concat2d(parts as tf.Tensor2D[], 1);
  });
}

/** [N, H·V] of [N, H·D]: without what fills values up. */
export function withoutFilling(
  y_NY: tf.Tensor2D,
  { numAttentionHeads: heads, headDim, keyValueLatent: { valueDim } }: LatentSizes,
): tf.Tensor2D {
  if (valueDim === headDim) return y_NY;
  const y_NHD = tf.reshape(y_NY, [y_NY.shape[0], heads, headDim]);
  return tf.reshape(tf.slice(y_NHD, [0, 0, 0], [-1, -1, valueDim]), [y_NY.shape[0], heads * valueDim]);
}

interface LatentFields {
  readonly keyValueLatent?: KeyValueLatentConfig | undefined;
  readonly numAttentionHeads?: number | undefined;
  readonly positions?: 'none' | 'rotary' | undefined;
  readonly mixer?: { readonly kind: string } | undefined;
}

/** What is wrong with the latents of a model and of its kinds of layers: for each fault, where it is. */
export function latentFaults(
  model: LatentFields & {
    readonly numAttentionHeads: number;
    readonly numKeyValueHeads: number;
    readonly headDim: number;
    readonly qkNorm: unknown;
    readonly controls: readonly ControlConfig[];
    readonly layers?: { readonly kinds: Readonly<Record<string, LatentFields>> } | undefined;
  },
  gates: readonly GateConfig[],
): { path: string[]; message: string }[] {
  const { keyValueLatent, numAttentionHeads, positions, mixer } = model;
  const common = { keyValueLatent, numAttentionHeads, positions, mixer };
  const places: { path: string[]; fields: LatentFields }[] = model.layers
    ? Object.entries(model.layers.kinds).map(([name, kind]) => ({
        path: ['layers', 'kinds', name],
        fields: { ...common, ...kind },
      }))
    : [{ path: [], fields: common }];
  return places.flatMap(({ path, fields }) => {
    const { keyValueLatent: latent } = fields;
    const isAttention = (fields.mixer?.kind ?? 'attention') === 'attention';
    if (!latent || !isAttention) return [];
    const other = gates.find(
      ({ position, granularity }) =>
        granularity !== 'none' &&
        position !== 'output' &&
        !(position === 'sdpa' && granularity === 'headwise'),
    );
    const control = model.controls.find((one) => blockControls([one]).length === 0);
    const refusals = [
      latent.sharedKeyDim >= model.headDim &&
        `${latent.sharedKeyDim} shared channels of keys of ${model.headDim}`,
      latent.valueDim > model.headDim &&
        `values of ${latent.valueDim} channels, more than the ${model.headDim} of a head`,
      fields.numAttentionHeads !== model.numKeyValueHeads &&
        `${fields.numAttentionHeads} query heads for ${model.numKeyValueHeads} of keys made of a latent, which each head has of its own`,
      model.qkNorm !== false && 'a norm of such queries and keys; set qkNorm to false',
      fields.positions !== 'none' && 'a rotary embedding of such keys; set positions to none',
      other &&
        `a gate at ${other.position}, ${other.granularity}, with such keys and values; a headwise one at sdpa or one at output there can be`,
      control && `the control ${control.kind} with such keys and values`,
    ].filter((one) => typeof one === 'string');
    return refusals.map((reason) => ({
      path: [...path, 'keyValueLatent'],
      message: `there cannot be ${reason}`,
    }));
  });
}
