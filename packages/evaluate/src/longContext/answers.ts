/** What a model answers to a long prompt, which it reads once, piece by piece. */

import { elementary } from '@sluice/core';
import { type Decoder, KeyValueCache, sampleToken } from '@sluice/model';

/** Tokens that go through the layers at once: memory for activations does not grow with the prompt, keys and values do. */
const PIECE = 512;

const GREEDY = { temperature: 0 };

/** What answers. */
export type Answering = Pick<Decoder, 'config' | 'nextTokenLogits' | 'followingLogits'>;

export class PromptReader {
  readonly #decoder: Answering;
  /** Tokens that can be answered. */
  readonly #tokens: number;
  readonly #cache: KeyValueCache;
  #length = 0;
  /** Logits of the token after the prompt, and the logarithm of the sum of their exponentials. */
  #next: Float32Array = new Float32Array();
  #nextTotal = 0;

  /**
   * @param tokens ids that have a text; rows of the embedding beyond are padding
   * @param capacity tokens of the longest prompt with its longest answer
   */
  constructor(decoder: Answering, tokens: number, capacity: number) {
    this.#decoder = decoder;
    this.#tokens = tokens;
    this.#cache = new KeyValueCache(decoder.config, capacity);
  }

  /** Reads a prompt in place of the last one; lets signals be handled between pieces. */
  async read(prompt: readonly number[]): Promise<void> {
    this.#cache.clear();
    for (let begin = 0; begin < prompt.length; begin += PIECE) {
      const piece = Int32Array.from(prompt.slice(begin, begin + PIECE));
      this.#next = this.#decoder.nextTokenLogits(piece, this.#cache).slice();
      await new Promise(setImmediate);
    }
    this.#length = prompt.length;
    this.#cache.mark();
    this.#nextTotal = logSumExp(this.#next);
  }

  /** Logarithm of the probability that the answer follows the prompt, nats. */
  logLikelihood(answer: readonly number[]): number {
    const vocabulary = this.#next.length;
    let sum = this.#next[answer[0]!]! - this.#nextTotal;
    if (answer.length > 1) {
      this.#cache.truncate(this.#length);
      const following = this.#decoder.followingLogits(Int32Array.from(answer.slice(0, -1)), this.#cache);
      for (let t = 1; t < answer.length; t++) {
        const logits = following.subarray((t - 1) * vocabulary, t * vocabulary);
        sum += logits[answer[t]!]! - logSumExp(logits);
      }
    }
    return sum;
  }

  /** The likeliest token, then the likeliest after it, and so on. */
  likeliest(count: number): number[] {
    this.#cache.truncate(this.#length);
    const answer: number[] = [];
    let logits = this.#next;
    for (;;) {
      answer.push(sampleToken(logits.subarray(0, this.#tokens), GREEDY, { low: 0, high: 0 }, 0));
      if (answer.length === count) return answer;
      logits = this.#decoder.nextTokenLogits(Int32Array.of(answer.at(-1)!), this.#cache);
    }
  }
}

function logSumExp(logits: Float32Array): number {
  let highest = Number.NEGATIVE_INFINITY;
  for (const logit of logits) if (logit > highest) highest = logit;
  let sum = 0;
  for (const logit of logits) sum += elementary.exp(logit - highest);
  return highest + elementary.log(sum);
}
