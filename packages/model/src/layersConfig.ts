/**
 * Layers of different kinds. A *kind* is what some layers have otherwise than the model says; a pattern tells which layer is
 * of which.
 *
 * ```yaml
 * layers:
 *   kinds:
 *     sliding: { ropeTheta: 10000, window: 512 }
 *     full: { positions: none }
 *     dense: { feedForward: dense }
 *   pattern: [sliding, sliding, sliding, full] # again and again
 *   first: [dense, dense] # in place of what the pattern says
 * ```
 */

import { positiveFloat32 } from '@sluice/core';
import { z } from 'zod';
import { LATENT_FIELDS } from './latentAttention.ts';
import { MIXER_FIELDS } from './mixers/index.ts';
import { ROPE_FIELDS } from './ropeConfig.ts';

/** Where the norms of a layer stand, which may differ between layers. */
export const NORM_FIELDS = {
  normPlacement: z
    .enum(['before', 'after'])
    .optional()
    .describe(
      'Where the norms of attention, or what has its place, and of the feed-forward layer stand: before them, or on what they add to the residual stream. Before when left out.',
    ),
};

/** What may differ between layers of the feed-forward layers, and what a model says of all of them. */
export const FEED_FORWARD_FIELDS = {
  swigluLimit: positiveFloat32()
    .optional()
    .describe(
      'Limit L of hidden units, whose factors become min(silu(gate), L) and up clamped to ±L; none when left out. A shared expert has its own.',
    ),
  sharedSwigluLimit: positiveFloat32().optional().describe('The same of the shared expert.'),
};

/** What a kind of layers has otherwise than the model; what is left out is as the model says. */
export const LayerKindConfig = z.strictObject({
  ...MIXER_FIELDS,
  ...LATENT_FIELDS,
  numAttentionHeads: z.int().min(1).optional().describe('Query heads.'),
  ropeTheta: positiveFloat32().optional().describe('Base of the rotary embedding.'),
  ...ROPE_FIELDS,
  feedForward: z
    .enum(['dense', 'experts'])
    .optional()
    .describe(
      'dense: one feed-forward layer of intermediateSize; experts: a mixture. Left out, experts where the model has any.',
    ),
  ...FEED_FORWARD_FIELDS,
  ...NORM_FIELDS,
});

export type LayerKindConfig = z.infer<typeof LayerKindConfig>;

const Names = z.array(z.string().min(1));

export const LayersConfig = z.strictObject({
  kinds: z
    .record(z.string().min(1), LayerKindConfig)
    .describe('The kinds of layers by names of your choice, each with what it has otherwise than the model.'),
  pattern: Names.min(1).describe(
    'Kinds of the layers from the first one on; it is repeated to the model’s depth, and its last turn may be cut.',
  ),
  first: Names.optional().describe('Kinds of the first layers, in place of what the pattern says.'),
  last: Names.optional().describe('Kinds of the last layers, in place of what the pattern says.'),
});

export type LayersConfig = z.infer<typeof LayersConfig>;

interface Layered {
  readonly numLayers: number;
  readonly layers?: LayersConfig | undefined;
}

/** Which layer is of which kind, whatever these are. */
interface Patterned {
  readonly numLayers: number;
  readonly layers?: (Omit<LayersConfig, 'kinds'> & { readonly kinds: object }) | undefined;
}

/** The name of each layer's kind. */
export function layerKinds({ numLayers, layers }: Patterned): string[] {
  if (!layers) return [];
  const { pattern, first = [], last = [] } = layers;
  const kinds = Array.from({ length: numLayers }, (_, layer) => pattern[layer % pattern.length]!);
  for (const [i, kind] of first.slice(0, numLayers).entries()) kinds[i] = kind;
  for (const [i, kind] of last.slice(-numLayers).entries())
    kinds[numLayers - Math.min(last.length, numLayers) + i] = kind;
  return kinds;
}

/** What is wrong with the layers of a model: for each fault, where it is. */
export function layerFaults(
  model: Layered & {
    readonly numAttentionHeads: number;
    readonly numKeyValueHeads: number;
    readonly headDim: number;
    readonly intermediateSize?: number | undefined;
    readonly experts?: object | undefined;
  },
): { path: (string | number)[]; message: string }[] {
  const { layers } = model;
  if (!layers) return [];
  const faults: { path: (string | number)[]; message: string }[] = [];
  const known = Object.keys(layers.kinds);
  for (const list of ['pattern', 'first', 'last'] as const) {
    for (const [i, name] of (layers[list] ?? []).entries()) {
      if (known.includes(name)) continue;
      const message = `there is no kind ${name} (kinds: ${known.join(', ')})`;
      faults.push({ path: ['layers', list, i], message });
    }
  }
  for (const [name, kind] of Object.entries(layers.kinds)) {
    const fault = (key: string, message: string) =>
      faults.push({ path: ['layers', 'kinds', name, key], message });
    const heads = kind.numAttentionHeads ?? model.numAttentionHeads;
    if (heads % model.numKeyValueHeads !== 0)
      fault(
        'numAttentionHeads',
        `${model.numKeyValueHeads} key-value heads do not divide ${heads} query heads`,
      );
    if (kind.rotaryDim !== undefined && kind.rotaryDim > model.headDim)
      fault('rotaryDim', `${kind.rotaryDim} channels of heads of ${model.headDim}`);
    const feedForward = kind.feedForward ?? (model.experts ? 'experts' : 'dense');
    if (feedForward === 'experts' && !model.experts)
      fault('feedForward', 'the model says nothing of experts');
    if (feedForward === 'dense' && model.intermediateSize === undefined)
      fault('feedForward', 'the model has no intermediateSize for dense layers');
  }
  const isDense = (name: string) => layers.kinds[name]?.feedForward === 'dense';
  if (
    faults.length === 0 &&
    model.experts &&
    model.intermediateSize !== undefined &&
    !layerKinds(model).some(isDense)
  )
    faults.push({
      path: ['intermediateSize'],
      message: 'no layer is dense: leave it out, or give a kind with feedForward: dense',
    });
  if (faults.length === 0 && model.experts && layerKinds(model).every(isDense))
    faults.push({ path: ['experts'], message: 'all layers are dense: leave experts out' });
  return faults;
}
