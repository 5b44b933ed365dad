/** Choosing the next token from logits. */

import { elementary, type RandomKey, randomUniform } from '@sluice/core';

export interface SamplingOptions {
  /** Divides the logits; 0 always takes the most likely token. */
  readonly temperature: number;
  /** Only the so many most likely tokens can be chosen; all when left out. */
  readonly topK?: number | undefined;
}

/**
 * Draws a token.
 * @param logits one for each token of the vocabulary
 * @param counter number of the draw in the stream `key`: the same draw gives the same token
 */
export function sampleToken(
  logits: Float32Array,
  options: SamplingOptions,
  key: RandomKey,
  counter: number,
): number {
  if (options.temperature === 0) return likeliest(logits);
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  const candidates = order.slice(0, options.topK ?? order.length);
  const highest = logits[candidates[0]!]!;
  const weights = candidates.map((token) => elementary.exp((logits[token]! - highest) / options.temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let left = randomUniform(key, counter) * total;
  const chosen = weights.findIndex((weight) => {
    left -= weight;
    return left < 0;
  });
  return candidates[chosen === -1 ? candidates.length - 1 : chosen]!;
}

/** The first of the largest logits, without ordering them all. */
function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let token = 1; token < logits.length; token++) if (logits[token]! > logits[best]!) best = token;
  return best;
}
