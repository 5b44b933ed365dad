/** Keys and values of the tokens that a decoder has seen, so that each new token costs one row and not the whole sequence. */

import { invariant } from '@sluice/core';
import type { CachedKeysValues } from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import type { ModelConfig } from './config.ts';

export class KeyValueCache {
  /** Most tokens that it can hold. */
  readonly capacity: number;
  readonly #width: number;
  readonly #layers: readonly { readonly keys: Float32Array; readonly values: Float32Array }[];
  #length = 0;

  /**
   * @param model its key-value heads and head size; the memory taken is 8·capacity·layers·K·D bytes
   * @param capacity in tokens
   */
  constructor(model: Pick<ModelConfig, 'numLayers' | 'numKeyValueHeads' | 'headDim'>, capacity: number) {
    this.capacity = capacity;
    this.#width = model.numKeyValueHeads * model.headDim;
    this.#layers = Array.from({ length: model.numLayers }, () => ({
      keys: new Float32Array(capacity * this.#width),
      values: new Float32Array(capacity * this.#width),
    }));
  }

  /** Tokens held. */
  get length(): number {
    return this.#length;
  }

  /**
   * Puts the keys and values of new tokens behind those of one layer.
   * @param k [T, K·D], normalised and rotated
   * @param v [T, K·D]
   * @returns those of all tokens
   */
  append(layer: number, k: tf.Tensor2D, v: tf.Tensor2D): CachedKeysValues {
    const { keys, values } = this.#layers[layer]!;
    const tokens = this.#length + k.shape[0];
    keys.set(k.dataSync<'float32'>(), this.#length * this.#width);
    values.set(v.dataSync<'float32'>(), this.#length * this.#width);
    return { keys, values, tokens };
  }

  /** Throws unless there is room for so many more tokens. */
  checkRoom(tokens: number): void {
    const all = this.#length + tokens;
    invariant(all <= this.capacity, `${all} tokens in a cache of ${this.capacity}`);
  }

  /** Makes new tokens count once all layers have theirs. */
  advance(tokens: number): void {
    this.#length += tokens;
  }

  /** Forgets all tokens but the first ones, so that another text can follow these. */
  truncate(tokens: number): void {
    invariant(tokens <= this.#length, `${tokens} tokens of ${this.#length}`);
    this.#length = tokens;
  }

  /** Forgets all tokens. */
  clear(): void {
    this.#length = 0;
  }
}
