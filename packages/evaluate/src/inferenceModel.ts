/** A model loaded from a checkpoint: perplexity and text. */

import { randomKey } from '@sluice/core';
import type { Dataset, Tokenizer } from '@sluice/data';
import type { Decoder } from '@sluice/model';
import { readGrain } from '@sluice/train';
import { sampleToken } from './sampling.ts';

export interface GenerateOptions {
  readonly prompt: string;
  /** Tokens to add at most; generation also ends at an end-of-text token. */
  readonly maxTokens: number;
  /** 0 for the most likely token each time. */
  readonly temperature: number;
  readonly topK?: number | undefined;
  readonly seed: number;
  /** Called with each new piece of text. */
  readonly onToken?: ((text: string) => void) | undefined;
}

export interface Generated {
  /** The new text, without the prompt. */
  readonly text: string;
  /** Number of new tokens. */
  readonly tokens: number;
}

export interface EvaluateOptions {
  readonly split: 'train' | 'validation';
  /** Sequences to score; the whole split when left out. */
  readonly sequences?: number | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface Evaluated {
  /** Mean cross-entropy, nats a token. */
  readonly loss: number;
  readonly perplexity: number;
  readonly tokens: number;
}

/** Sequences that are scored in one pass. */
const SEQUENCES_AT_ONCE = 4;

export class InferenceModel {
  readonly decoder: Decoder;
  readonly tokenizer: Tokenizer;
  readonly sequenceLength: number;
  readonly #dataset: Dataset;

  constructor(decoder: Decoder, tokenizer: Tokenizer, dataset: Dataset, sequenceLength: number) {
    this.decoder = decoder;
    this.tokenizer = tokenizer;
    this.sequenceLength = sequenceLength;
    this.#dataset = dataset;
  }

  /** Continues a prompt. The same seed gives the same text. */
  async generate({ prompt, maxTokens, seed, onToken, ...sampling }: GenerateOptions): Promise<Generated> {
    const { endOfTextId } = this.tokenizer;
    const key = randomKey(seed, 'generate');
    const tokens = [endOfTextId, ...this.tokenizer.encode(prompt)];
    const start = tokens.length;
    let shown = '';
    while (tokens.length - start < maxTokens) {
      const context = Int32Array.from(tokens.slice(-this.sequenceLength));
      const next = sampleToken(this.decoder.nextTokenLogits(context), sampling, key, tokens.length);
      if (next === endOfTextId) break;
      tokens.push(next);
      const text = this.tokenizer.decode(tokens.slice(start));
      // A character may need several tokens; the replacement character stands for one that is not whole yet.
      if (onToken && !text.endsWith('\ufffd')) {
        onToken(text.slice(shown.length));
        shown = text;
      }
      // Lets a signal be handled between tokens.
      await new Promise(setImmediate);
    }
    return { text: this.tokenizer.decode(tokens.slice(start)), tokens: tokens.length - start };
  }

  /** Mean cross-entropy of the first sequences of a split, in plain order. */
  async evaluate({ split, sequences, onProgress }: EvaluateOptions): Promise<Evaluated> {
    const sampler = this.#dataset.sampler({ split, sequenceLength: this.sequenceLength, seed: 0 });
    const total = Math.min(sequences ?? sampler.numSequences, sampler.numSequences);
    let sum = 0;
    for (let first = 0; first < total; first += SEQUENCES_AT_ONCE) {
      const grain = readGrain(sampler, 0, first, Math.min(SEQUENCES_AT_ONCE, total - first));
      const { loss, parts } = this.decoder.loss({
        ...grain,
        totalTokens: grain.inputs.length,
        expertLoads: [],
      });
      loss.dispose();
      sum += parts.crossEntropySum;
      onProgress?.(first + grain.sequences, total);
      await new Promise(setImmediate);
    }
    const tokens = total * this.sequenceLength;
    const loss = sum / tokens;
    return { loss, perplexity: Math.exp(loss), tokens };
  }

  close(): void {
    this.#dataset.close();
  }
}
