/** Going on with a text token by token. */

import type { Decoder } from './decoder.ts';
import { KeyValueCache } from './keyValueCache.ts';

/**
 * A function from all tokens so far to the logits of the next one, [V], which computes only what it has not seen before. Each call is
 * one forward pass.
 * @param window tokens in sight; where there are more, the older half of what is seen is dropped, each time it is full
 */
export function nextTokens(decoder: Decoder, window: number): (tokens: readonly number[]) => Float32Array {
  const cache = new KeyValueCache(decoder.config, window);
  const dropped = Math.ceil(window / 2);
  let begin = 0;
  return (tokens) => {
    while (tokens.length - begin > window) {
      begin += dropped;
      cache.clear();
    }
    return decoder.nextTokenLogits(Int32Array.from(tokens.slice(begin + cache.length)), cache);
  };
}
