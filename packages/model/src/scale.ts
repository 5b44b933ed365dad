/**
 * Models made small enough for a laptop. Ratios are kept: query heads for each key-value head, experts for each token, the
 * depths of models to each other, and (where the sizes allow) feed-forward and attention widths relative to the hidden size.
 * So what a variant adds is about the same share of the model as at full size.
 */

import type { KeyValueLatentConfig } from './latentAttention.ts';
import { type LayersConfig, layerKinds } from './layersConfig.ts';
import { type MixerConfig, scaledMixer } from './mixers/index.ts';

export const SCALES = ['full', 'small', 'tiny'] as const;

export type Scale = (typeof SCALES)[number];

/** By what each size is divided. Widths of attention (heads · head size) shrink like the hidden size. */
const DIVISORS = {
  small: { layers: 1, width: 8, heads: 2, headDim: 4, experts: 2 },
  tiny: { layers: 4, width: 32, heads: 4, headDim: 8, experts: 4 },
};

/** Enough for the tokenizers of the corpora that come with Sluice. */
const MOST_VOCABULARY = 8192;

/** The sizes of a `ModelConfig`. */
interface Sizes {
  readonly numLayers: number;
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly intermediateSize?: number | undefined;
  readonly experts?: ExpertSizes | undefined;
  readonly rotaryDim?: number | undefined;
  readonly keyValueLatent?: KeyValueLatentConfig | undefined;
  readonly mixer?: MixerConfig | undefined;
  readonly layers?: LayersSizes | undefined;
}

type LayersSizes = Omit<LayersConfig, 'kinds'> & { readonly kinds: Readonly<Record<string, KindSizes>> };

/** The sizes of a `LayerKindConfig`. */
interface KindSizes {
  readonly feedForward?: 'dense' | 'experts' | undefined;
  readonly keyValueLatent?: KeyValueLatentConfig | undefined;
  readonly mixer?: MixerConfig | undefined;
  readonly numAttentionHeads?: number | undefined;
  readonly rotaryDim?: number | undefined;
}

interface ExpertSizes {
  readonly count: number;
  readonly topK: number;
  readonly intermediateSize: number;
  readonly sharedIntermediateSize: number;
  readonly groups?: { readonly count: number; readonly topK: number } | undefined;
}

function divide(size: number, divisor: number, multiple = 1): number {
  return Math.max(multiple, multiple * Math.round(size / (divisor * multiple)));
}

export function scaleModel<Model extends Sizes>(model: Model, scale: Scale): Model {
  if (scale === 'full') return model;
  const by = DIVISORS[scale];
  const numKeyValueHeads = divide(model.numKeyValueHeads, by.heads);
  const headDim = divide(model.headDim, by.headDim, 2);
  const queryHeads = (heads: number) => (heads / model.numKeyValueHeads) * numKeyValueHeads;
  // The same share of a head.
  const rotary = (channels: number) => 2 * Math.max(1, Math.round((channels * headDim) / model.headDim / 2));
  const mixer = (config: MixerConfig | undefined) =>
    config && {
      mixer: scaledMixer(config, {
        heads: (count) => divide(count, by.heads),
        headDim: (channels) => divide(channels, by.headDim, 2),
      }),
    };
  // The same shares of a head.
  const channels = (count: number) => Math.round((count * headDim) / model.headDim);
  const latent = (config: KeyValueLatentConfig | undefined) =>
    config && {
      keyValueLatent: {
        ...config,
        rank: divide(config.rank, by.width, 2),
        // Keys have channels of their own beside those.
        sharedKeyDim: Math.min(channels(config.sharedKeyDim), headDim - 1),
        valueDim: Math.max(1, channels(config.valueDim)),
      },
    };
  const scaleKind = ({ numAttentionHeads, rotaryDim, ...kind }: KindSizes): KindSizes => ({
    ...kind,
    ...mixer(kind.mixer),
    ...latent(kind.keyValueLatent),
    ...(numAttentionHeads !== undefined && { numAttentionHeads: queryHeads(numAttentionHeads) }),
    ...(rotaryDim !== undefined && { rotaryDim: rotary(rotaryDim) }),
  });
  return withoutIdle({
    ...model,
    numLayers: divide(model.numLayers, by.layers),
    vocabularySize: Math.min(model.vocabularySize, MOST_VOCABULARY),
    hiddenSize: divide(model.hiddenSize, by.width, 8),
    numAttentionHeads: queryHeads(model.numAttentionHeads),
    numKeyValueHeads,
    headDim,
    ...(model.rotaryDim !== undefined && { rotaryDim: rotary(model.rotaryDim) }),
    ...mixer(model.mixer),
    ...latent(model.keyValueLatent),
    ...(model.layers && {
      layers: {
        ...model.layers,
        kinds: Object.fromEntries(
          Object.entries(model.layers.kinds).map(([name, kind]) => [name, scaleKind(kind)]),
        ),
      },
    }),
    ...(model.intermediateSize === undefined
      ? {}
      : { intermediateSize: divide(model.intermediateSize, by.width) }),
    ...(model.experts === undefined ? {} : { experts: scaleExperts(model.experts, by) }),
  });
}

/** Where fewer layers are all dense, or all have experts, what the others would need is left out, and the kinds that no layer is of. */
function withoutIdle<Model extends Sizes>(model: Model): Model {
  const { layers, experts, intermediateSize, ...rest } = model;
  if (!layers || !experts || intermediateSize === undefined) return model;
  const pattern = layerKinds(model);
  const isDense = (name: string) => layers.kinds[name]?.feedForward === 'dense';
  if (pattern.some(isDense) && !pattern.every(isDense)) return model;
  const kinds = Object.fromEntries(Object.entries(layers.kinds).filter(([name]) => pattern.includes(name)));
  const kept = pattern.some(isDense) ? { intermediateSize } : { experts };
  return { ...rest, layers: { kinds, pattern }, ...kept } as unknown as Model;
}

function scaleExperts<Experts extends ExpertSizes>(
  experts: Experts,
  by: { width: number; experts: number },
): Experts {
  const topK = divide(experts.topK, by.experts);
  const { sharedIntermediateSize: shared, groups } = experts;
  const count = Math.max(2, Math.round((topK * experts.count) / experts.topK));
  // As many groups, of equal size.
  const multiple = groups?.count ?? 1;
  return {
    ...experts,
    topK,
    count: multiple * Math.max(1, Math.ceil(count / multiple)),
    intermediateSize: divide(experts.intermediateSize, by.width),
    sharedIntermediateSize: shared === 0 ? 0 : divide(shared, by.width),
  };
}
