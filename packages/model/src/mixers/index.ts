/** All mixers. A new one is a file beside this one and a line here. */

import { z } from 'zod';
import { gatedDeltaNet } from './gatedDeltaNet.ts';
import { kimiDeltaAttention } from './kimiDeltaAttention.ts';
import type { Mixer, MixerScale } from './mixer.ts';
import { shortConvolution } from './shortConvolution.ts';

const MIXERS = [gatedDeltaNet, kimiDeltaAttention, shortConvolution] as const;

type SettingsOf<M> = M extends Mixer<infer Settings> ? Settings : never;

/** The settings of a mixer other than attention. */
export type MixerSettings = SettingsOf<(typeof MIXERS)[number]>;

export type AnyMixer = Mixer<MixerSettings>;

type DiscriminatedSchemas = Parameters<typeof z.discriminatedUnion>[1];

const Attention = z.strictObject({
  kind: z.literal('attention').describe('Attention, as the model has it.'),
});

export type MixerConfig = MixerSettings | z.infer<typeof Attention>;

export const MixerConfig = z.discriminatedUnion('kind', [
  Attention,
  ...MIXERS.map(({ schema }) => schema),
] as unknown as DiscriminatedSchemas) as unknown as z.ZodType<MixerConfig>;

const BY_KIND = new Map(
  MIXERS.map((mixer) => {
    const { kind } = (mixer.schema as unknown as z.ZodObject<{ kind: z.ZodLiteral<string> }>).shape;
    return [kind.value, mixer as unknown as AnyMixer];
  }),
);

/** What mixes the tokens of layers, of a model and of a kind of its layers. */
export const MIXER_FIELDS = {
  mixer: MixerConfig.optional().describe('What mixes the tokens; attention when left out.'),
  window: z
    .int()
    .min(1)
    .optional()
    .describe(
      'Tokens that attention sees, the own one and those just before it; all before it when left out.',
    ),
};

/** A mixer other than attention with its settings. */
export interface ActiveMixer {
  readonly mixer: AnyMixer;
  readonly settings: MixerSettings;
}

/** The mixer of a layer; undefined where it is attention. */
export function activeMixer({
  mixer: settings,
}: {
  readonly mixer?: MixerConfig | undefined;
}): ActiveMixer | undefined {
  if (settings === undefined || settings.kind === 'attention') return undefined;
  return { mixer: BY_KIND.get(settings.kind)!, settings };
}

/** A mixer of a smaller model. */
export function scaledMixer(config: MixerConfig, by: MixerScale): MixerConfig {
  const active = activeMixer({ mixer: config });
  return active?.mixer.scaled?.(active.settings, by) ?? config;
}

/** What is wrong with the mixers and windows of a model and of its kinds of layers: for each fault, where it is. */
export function mixerFaults(model: {
  readonly mixer?: MixerConfig | undefined;
  readonly window?: number | undefined;
  readonly controls: readonly { readonly kind: string }[];
  readonly layers?: { readonly kinds: Readonly<Record<string, MixerFields>> } | undefined;
}): { path: string[]; message: string }[] {
  const kinds = Object.entries(model.layers?.kinds ?? {});
  const places = [
    { path: [] as string[], fields: model as MixerFields },
    ...kinds.map(([name, fields]) => ({ path: ['layers', 'kinds', name], fields })),
  ];
  const hasSink = model.controls.some(({ kind }) => kind === 'attention-sink');
  return places.flatMap(({ path, fields }) => {
    const active = activeMixer(fields);
    const refusal = active?.mixer.refusal?.(active.settings);
    return [
      ...(refusal === undefined ? [] : [{ path: [...path, 'mixer'], message: `there cannot be ${refusal}` }]),
      ...(hasSink && fields.window !== undefined
        ? [{ path: [...path, 'window'], message: 'a window leaves no sight of the control attention-sink' }]
        : []),
    ];
  });
}

interface MixerFields {
  readonly mixer?: MixerConfig | undefined;
  readonly window?: number | undefined;
}
