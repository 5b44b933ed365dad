/** The rotary embedding's part of a Hugging Face `config.json`, and of ours. */

import { elementary } from '@sluice/core';
import type { RopeScalingConfig } from '../config.ts';

/** What `config.json` says, in the terms of `ModelConfig`. */
export interface ImportedRope {
  readonly theta: number;
  readonly scaling: RopeScalingConfig | undefined;
}

type Json = Readonly<Record<string, unknown>>;

/**
 * Reads `rope_theta` and `rope_scaling`, or the newer `rope_parameters`, which holds both.
 * @param theta the base where none is given
 * @param problems gets a sentence for each thing that cannot be said
 */
export function importRope(config: Json, theta: number, maxLength: number, problems: string[]): ImportedRope {
  const parameters = (config.rope_parameters ?? config.rope_scaling ?? {}) as Json;
  const kind = parameters.rope_type ?? parameters.type ?? 'default';
  const base = numberOf(parameters.rope_theta) ?? numberOf(config.rope_theta) ?? theta;
  const factor = numberOf(parameters.factor) ?? 1;
  if (kind === 'default') return { theta: base, scaling: undefined };
  if (kind === 'linear') return { theta: base, scaling: { kind, factor } };
  if (kind === 'yarn') return { theta: base, scaling: importYarn(parameters, factor, maxLength, problems) };
  problems.push(`the rotary embedding of type ${JSON.stringify(kind)} (known: default, linear, yarn)`);
  return { theta: base, scaling: undefined };
}

function importYarn(
  parameters: Json,
  factor: number,
  maxLength: number,
  problems: string[],
): RopeScalingConfig {
  if (parameters.truncate === false) problems.push('YaRN between fractional indices (truncate: false)');
  // In `transformers` a zero means the default here.
  const orDefault = (value: unknown, fallback: number) => numberOf(value) || fallback;
  const attentionFactor = numberOf(parameters.attention_factor) ?? scaleRatio(parameters, factor);
  return {
    kind: 'yarn',
    factor,
    originalLength: orDefault(parameters.original_max_position_embeddings, maxLength),
    betaFast: orDefault(parameters.beta_fast, 32),
    betaSlow: orDefault(parameters.beta_slow, 1),
    ...(attentionFactor === undefined ? {} : { attentionFactor }),
  };
}

/** DeepSeek's way to give the attention factor: by two scales of its logarithm. */
function scaleRatio({ mscale, mscale_all_dim }: Json, factor: number): number | undefined {
  const [own, allDim] = [numberOf(mscale), numberOf(mscale_all_dim)];
  if (!own || !allDim) return undefined;
  const scaled = (scale: number) => 0.1 * scale * elementary.log(factor) + 1;
  return scaled(own) / scaled(allDim);
}

function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined;
}

/** `rope_scaling` for `config.json`; null for none. */
export function exportRopeScaling(scaling: RopeScalingConfig | undefined): Json | null {
  if (!scaling) return null;
  if (scaling.kind === 'linear') return { rope_type: 'linear', factor: scaling.factor };
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
