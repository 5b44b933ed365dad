/** What reading a `config.json` has alike in all families. */

import { SluiceError } from '@sluice/core';
import { z } from 'zod';
import type { LayerKindConfig } from '../../layersConfig.ts';
import { type DescribedRope, describedRope, importRope, type RopeContext, RopeParameters } from '../rope.ts';
import type { Json, Reading } from './family.ts';
import { ATTENTION_TYPES, type AttentionType } from './written.ts';

export const Size = z.int().min(1);

/** Keys that all families have; those without a default differ in it. */
export const CommonKeys = z.looseObject({
  hidden_size: Size,
  num_hidden_layers: Size,
  num_attention_heads: Size,
  max_position_embeddings: Size,
  initializer_range: z.number().positive().default(0.02),
  tie_word_embeddings: z.boolean().default(false),
  layer_types: z.array(z.string()).nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: RopeParameters.nullish(),
  rope_parameters: RopeParameters.nullish(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
});

/** @throws SLUICE_E_HF_CONFIG when a key has a value of the wrong type */
export function parseKeys<Schema extends z.ZodType>(
  config: unknown,
  schema: Schema,
  source: string,
): z.output<Schema> {
  const result = schema.safeParse(config);
  if (result.success) return result.data;
  const issues = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new SluiceError('SLUICE_E_HF_CONFIG', `${source}: ${issues.join('; ')}.`, {
    details: { source, issues },
  });
}

/** The keys of a model that all families say by the same ones. */
export function commonModel(keys: {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads?: number | null | undefined;
  readonly head_dim: number;
  readonly initializer_range: number;
  readonly tie_word_embeddings: boolean;
}): object {
  return {
    vocabularySize: keys.vocab_size,
    hiddenSize: keys.hidden_size,
    numLayers: keys.num_hidden_layers,
    numAttentionHeads: keys.num_attention_heads,
    numKeyValueHeads: keys.num_key_value_heads ?? keys.num_attention_heads,
    headDim: keys.head_dim,
    initializerRange: keys.initializer_range,
    tieWordEmbeddings: keys.tie_word_embeddings,
  };
}

/**
 * One item for each layer of a list in `config.json`. A list of another length is refused.
 * @param most how long it may be: layers that predict further tokens may have their items behind those of the others
 */
export function perLayer<Item>(
  key: string,
  list: readonly Item[],
  layers: number,
  { problems }: Reading,
  most = layers,
): readonly Item[] {
  if (list.length < layers || list.length > most)
    problems.push(`${layers} layers and ${list.length} items of ${key} (num_hidden_layers, ${key})`);
  return Array.from({ length: layers }, (_, layer) => list[Math.min(layer, list.length - 1)]!);
}

/** The type of each layer, each of them one that the family has. */
export function layerTypes<Type extends string>(
  types: readonly string[],
  known: readonly Type[],
  layers: number,
  reading: Reading,
  most = layers,
): readonly Type[] {
  for (const other of new Set(types.filter((type) => !known.includes(type as Type))))
    reading.problems.push(`layers of the type ${other} (layer_types; known: ${known.join(', ')})`);
  return perLayer('layer_types', types, layers, reading, most).map((type) =>
    known.includes(type as Type) ? (type as Type) : known[0]!,
  );
}

type RopeOptions = Pick<RopeContext, 'maxLength' | 'kinds' | 'harmlessKeys' | 'isPartial'> & {
  readonly headDim: number;
  readonly defaultTheta: number;
  /** Share of a head that turns where `config.json` says nothing; all of it when left out. */
  readonly defaultShare?: number;
};

function contextOf(reading: Reading, options: RopeOptions): RopeContext {
  const { ignore, ignored, problems } = reading;
  return { ...options, ignore, ignored, problems };
}

/** The rotary embedding that all layers have. */
export function commonRope(
  keys: Pick<
    z.infer<typeof CommonKeys>,
    'rope_theta' | 'rope_scaling' | 'rope_parameters' | 'partial_rotary_factor'
  >,
  reading: Reading,
  options: RopeOptions,
): Pick<LayerKindConfig, 'ropeTheta' | 'ropeScaling' | 'rotaryDim'> {
  const { theta, scaling, share } = importRope(keys, contextOf(reading, options));
  const outer = keys.partial_rotary_factor ?? undefined;
  if (share !== undefined && outer !== undefined && share !== outer)
    reading.problems.push(`two shares of a head to be rotated (partial_rotary_factor ${outer} and ${share})`);
  return ropeOf({ theta, scaling, share: share ?? outer }, reading, options);
}

/** The rotary embedding of one type of layers. @param place its key, for messages */
export function ropeOfType(
  place: string,
  parameters: unknown,
  reading: Reading,
  options: RopeOptions,
): Pick<LayerKindConfig, 'ropeTheta' | 'ropeScaling' | 'rotaryDim'> {
  const parsed = parseKeys(parameters ?? {}, RopeParameters, `${reading.source}: ${place}`);
  return ropeOf(describedRope(place, parsed, contextOf(reading, options)), reading, options);
}

function ropeOf(
  { theta, scaling, share }: DescribedRope,
  { problems }: Reading,
  { headDim, defaultTheta, defaultShare = 1 }: RopeOptions,
): Pick<LayerKindConfig, 'ropeTheta' | 'ropeScaling' | 'rotaryDim'> {
  const rotaryDim = Math.floor(headDim * (scaling?.kind === 'proportional' ? 1 : (share ?? defaultShare)));
  if (rotaryDim % 2 !== 0 || rotaryDim === 0)
    problems.push(
      `a rotary embedding of ${rotaryDim} of a head’s ${headDim} channels (partial_rotary_factor ${share})`,
    );
  return {
    ropeTheta: theta ?? defaultTheta,
    ...(scaling && { ropeScaling: scaling }),
    ...(rotaryDim < headDim && { rotaryDim }),
  };
}

/** Refuses `rope_parameters` that describe something else than types of attention layers, or not all that there are. */
export function judgeTypes(parameters: Json, types: readonly string[], { problems }: Reading): void {
  const other = Object.keys(parameters).find((key) => !ATTENTION_TYPES.includes(key as AttentionType));
  if (other !== undefined)
    problems.push(`a rotary embedding that is of no type of layers (rope_parameters.${other})`);
  const missing = types.find((type) => !objectOf(parameters[type]));
  if (missing !== undefined)
    problems.push(`layers whose rotary embedding is not described (rope_parameters.${missing})`);
}

/** A value of `config.json` that is an object; undefined where it is none. */
export function objectOf(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}
