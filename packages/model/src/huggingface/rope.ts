/** The rotary embedding's part of a Hugging Face `config.json`, and of ours. */

import { isDeepStrictEqual } from 'node:util';
import { elementary } from '@sluice/core';
import { z } from 'zod';
import type { RopeScalingConfig } from '../ropeConfig.ts';
import { show } from './keyRules.ts';

/** What `config.json` says, in the terms of `ModelConfig`. */
export interface ImportedRope {
  readonly theta: number;
  readonly scaling: RopeScalingConfig | undefined;
  /** Share of a head's channels that it turns, where it is given. */
  readonly share: number | undefined;
}

type Json = Readonly<Record<string, unknown>>;

/** `rope_scaling`, or the newer `rope_parameters`; what stands in there beside these keys is judged by its name. */
export const RopeParameters = z.looseObject({
  rope_type: z.string().nullish(),
  // What older files call it.
  type: z.string().nullish(),
  rope_theta: z.number().positive().nullish(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
  factor: z.number().min(1).nullish(),
  original_max_position_embeddings: z.int().min(1).nullish(),
  attention_factor: z.number().positive().nullish(),
  // In `transformers` a zero means the default in these four.
  beta_fast: z.number().min(0).nullish(),
  beta_slow: z.number().min(0).nullish(),
  mscale: z.number().min(0).nullish(),
  mscale_all_dim: z.number().min(0).nullish(),
  truncate: z.boolean().nullish(),
  low_freq_factor: z.number().positive().nullish(),
  high_freq_factor: z.number().positive().nullish(),
});

export type RopeParameters = z.infer<typeof RopeParameters>;

/** Keys that every rotary embedding has, and those that each known kind has beside them. */
const COMMON_KEYS = ['rope_type', 'type', 'rope_theta', 'partial_rotary_factor'];
const KEYS_OF_KIND: Readonly<Record<string, readonly string[]>> = {
  default: [],
  linear: ['factor'],
  yarn: [
    'factor',
    'original_max_position_embeddings',
    'attention_factor',
    'beta_fast',
    'beta_slow',
    'mscale',
    'mscale_all_dim',
    'truncate',
  ],
  llama3: ['factor', 'original_max_position_embeddings', 'low_freq_factor', 'high_freq_factor'],
  proportional: [],
};

type RopeKind = 'default' | RopeScalingConfig['kind'];

/** What the layouts of one rotary embedding for all layers may ask for. */
const USUAL_KINDS: readonly RopeKind[] = ['default', 'linear', 'yarn'];

/** Where `config.json` may describe the rotary embedding, the place that newer versions of `transformers` prefer first. */
const PLACES = ['rope_scaling', 'rope_parameters'] as const;

export interface RopeKeys {
  readonly rope_theta?: number | null | undefined;
  readonly rope_scaling?: RopeParameters | null | undefined;
  readonly rope_parameters?: RopeParameters | null | undefined;
}

/** What is needed beside the keys of the rotary embedding, and what is told of them. */
export interface RopeContext {
  /** The base where none is given. */
  readonly defaultTheta: number;
  readonly maxLength: number;
  /** Keys to pass over, as `rope_scaling.key`. */
  readonly ignore: readonly string[];
  /** Gets the keys that were passed over. */
  readonly ignored: Record<string, unknown>;
  /** Gets a sentence for each thing that cannot be said. */
  readonly problems: string[];
  /** Types of rotary embeddings that the layout has; default, linear and yarn when left out. */
  readonly kinds?: readonly RopeKind[];
  /** Whether the layout has rotary embeddings of part of a head. */
  readonly isPartial?: boolean;
  /** Keys of its own that change nothing for text. */
  readonly harmlessKeys?: readonly string[];
}

/** A rotary embedding as one place of `config.json` describes it. */
export interface DescribedRope {
  readonly theta: number | undefined;
  readonly scaling: RopeScalingConfig | undefined;
  /** Share of a head's channels that it turns, where it is given. */
  readonly share: number | undefined;
}

/** Reads one description of a rotary embedding, such as that of one type of layers. @param place its key, for messages */
export function describedRope(
  place: string,
  parameters: RopeParameters,
  context: RopeContext,
): DescribedRope {
  const scaling = importScaling(place, parameters, context);
  const share = parameters.partial_rotary_factor ?? undefined;
  return {
    theta: parameters.rope_theta ?? undefined,
    scaling,
    // Of a proportional one it says how many of the head's frequencies turn.
    share: scaling?.kind === 'proportional' ? undefined : share,
  };
}

/**
 * Reads `rope_theta`, `rope_scaling` and `rope_parameters`. Versions of `transformers` prefer one or the other where these
 * contradict each other, so that is refused.
 */
export function importRope(keys: RopeKeys, context: RopeContext): ImportedRope {
  const { defaultTheta, problems } = context;
  const read = PLACES.flatMap((place) => {
    const parameters = keys[place];
    return parameters && Object.keys(parameters).length > 0
      ? [describedRope(place, parameters, context)]
      : [];
  });
  const [first, second] = read;
  const isOther = !isDeepStrictEqual(first?.scaling, second?.scaling) || first?.share !== second?.share;
  if (first && second && isOther)
    problems.push('two rotary embeddings (rope_scaling and rope_parameters differ)');
  const bases = [keys.rope_theta ?? undefined, ...read.map(({ theta }) => theta)];
  const given = [...new Set(bases.filter((base) => base !== undefined))];
  if (given.length > 1)
    problems.push(`several bases of the rotary embedding (rope_theta ${given.join(', ')})`);
  return { theta: given[0] ?? defaultTheta, scaling: first?.scaling, share: first?.share };
}

function importScaling(
  place: string,
  parameters: RopeParameters,
  context: RopeContext,
): RopeScalingConfig | undefined {
  const { problems, maxLength, isPartial = false } = context;
  const nested = Object.keys(parameters).find((key) => isObject(parameters[key]));
  if (nested !== undefined) {
    problems.push(`rotary embeddings that differ between layers (${place}.${nested})`);
    return undefined;
  }
  const kind = kindOf(place, parameters, context);
  if (kind === undefined) return undefined;
  if (!isPartial && kind !== 'proportional' && (parameters.partial_rotary_factor ?? 1) !== 1)
    problems.push(
      `a rotary embedding of part of a head (${place}.partial_rotary_factor ${parameters.partial_rotary_factor})`,
    );
  judgeScalingKeys(place, kind, parameters, context);
  if (kind === 'default') return undefined;
  if (kind === 'proportional') return { kind, share: parameters.partial_rotary_factor ?? 1 };
  const { factor } = parameters;
  if (factor == null) {
    problems.push(`a rotary embedding of type ${kind} without a factor (${place}.factor)`);
    return undefined;
  }
  if (kind === 'linear') return { kind, factor };
  if (kind === 'llama3') return importLlama3({ ...parameters, factor }, maxLength);
  return importYarn(place, { ...parameters, factor }, maxLength, problems);
}

function importLlama3(
  parameters: RopeParameters & { readonly factor: number },
  maxLength: number,
): RopeScalingConfig {
  return {
    kind: 'llama3',
    factor: parameters.factor,
    originalLength: parameters.original_max_position_embeddings ?? maxLength,
    lowFrequencyFactor: parameters.low_freq_factor ?? 1,
    highFrequencyFactor: parameters.high_freq_factor ?? 4,
  };
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The kind of rotary embedding, if it is a known one. */
function kindOf(
  place: string,
  { rope_type, type, ...parameters }: RopeParameters,
  { problems, kinds: known = USUAL_KINDS }: RopeContext,
): RopeKind | undefined {
  const kinds = [...new Set([rope_type, type].filter((kind) => kind != null))];
  const [kind = 'default'] = kinds;
  if (kinds.length > 1) {
    problems.push(`a rotary embedding of two types (${place}: ${kinds.map(show).join(' and ')})`);
  } else if (kinds.length === 0 && parameters.factor != null) {
    problems.push(`a scaled rotary embedding of no type (${place} ${show(parameters)})`);
  } else if (known.includes(kind as RopeKind)) {
    return kind as RopeKind;
  } else {
    problems.push(`the rotary embedding of type ${show(kind)} (known: ${known.join(', ')})`);
  }
  return undefined;
}

/** A key that its kind does not have is refused: it was meant to change something. */
function judgeScalingKeys(
  place: string,
  kind: string,
  parameters: RopeParameters,
  { ignore, ignored, problems, harmlessKeys = [] }: RopeContext,
): void {
  const known = [...COMMON_KEYS, ...KEYS_OF_KIND[kind]!, ...harmlessKeys];
  for (const [key, value] of Object.entries(parameters)) {
    if (known.includes(key) || (value === null && Object.hasOwn(RopeParameters.shape, key))) continue;
    const name = `${place}.${key}`;
    if (ignore.includes(name)) ignored[name] = value;
    else
      problems.push(
        `${name} ${show(value)}, which a rotary embedding of type ${kind} does not have (if it changes nothing: sluice import … --ignore-config ${name})`,
      );
  }
}

function importYarn(
  place: string,
  parameters: RopeParameters & { readonly factor: number },
  maxLength: number,
  problems: string[],
): RopeScalingConfig {
  const { factor, truncate, original_max_position_embeddings: originalLength } = parameters;
  if (truncate === false) problems.push(`YaRN between fractional indices (${place}.truncate: false)`);
  const attentionFactor = parameters.attention_factor ?? scaleRatio(parameters);
  return {
    kind: 'yarn',
    factor,
    originalLength: originalLength ?? maxLength,
    betaFast: parameters.beta_fast || 32,
    betaSlow: parameters.beta_slow || 1,
    ...(attentionFactor === undefined ? {} : { attentionFactor }),
  };
}

/** DeepSeek's way to give the attention factor: by two scales of its logarithm. */
function scaleRatio({
  factor,
  mscale,
  mscale_all_dim: allDim,
}: RopeParameters & { readonly factor: number }): number | undefined {
  if (!mscale || !allDim) return undefined;
  const scaled = (scale: number) => 0.1 * scale * elementary.log(factor) + 1;
  return scaled(mscale) / scaled(allDim);
}

/** `rope_scaling` for `config.json`; null for none. */
export function exportRopeScaling(scaling: RopeScalingConfig | undefined): Json | null {
  if (!scaling) return null;
  switch (scaling.kind) {
    case 'linear':
      return { rope_type: 'linear', factor: scaling.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: scaling.factor,
        original_max_position_embeddings: scaling.originalLength,
        low_freq_factor: scaling.lowFrequencyFactor,
        high_freq_factor: scaling.highFrequencyFactor,
      };
    case 'proportional':
      return { rope_type: 'proportional', partial_rotary_factor: scaling.share };
    case 'yarn':
      return exportYarn(scaling);
  }
}

function exportYarn(scaling: Extract<RopeScalingConfig, { kind: 'yarn' }>): Json {
  const { factor, originalLength, betaFast, betaSlow, attentionFactor } = scaling;
  return {
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: originalLength,
    beta_fast: betaFast,
    beta_slow: betaSlow,
    ...(attentionFactor === undefined ? {} : { attention_factor: attentionFactor }),
  };
}
