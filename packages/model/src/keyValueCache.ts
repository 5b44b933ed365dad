/**
 * What a decoder knows of the tokens that it has seen, so that each new token costs one row and not the whole sequence: of layers
 * with attention the tokens' keys and values, of others the states of their mixers.
 */

import { invariant } from '@sluice/core';
import { type CachedKeysValues, type FlatMemory, type Floats, flatMemory } from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import type { ModelConfig } from './config.ts';
import { type LayerModel, layerModels } from './layers.ts';
import { activeMixer } from './mixers/index.ts';

type State = ReadonlyMap<string, Float32Array>;

/** How many tokens there were at a moment, and the states of the layers then. */
interface Mark {
  readonly length: number;
  readonly states: readonly (State | undefined)[];
}

export class KeyValueCache {
  /** Most tokens that it can hold. */
  readonly capacity: number;
  readonly #layers: readonly (CachedRows | State)[];
  #length = 0;
  #mark: Mark | undefined;

  /**
   * @param model its layers with attention take 8·capacity·K·D bytes each, or about 16·window·K·D where that is less; others as much
   *   as their state
   * @param capacity in tokens
   */
  constructor(model: ModelConfig, capacity: number) {
    this.capacity = capacity;
    this.#layers = layerModels(model).map((layer) => stateOf(layer) ?? new CachedRows(layer, capacity));
  }

  /** Tokens held. */
  get length(): number {
    return this.#length;
  }

  /**
   * Puts the keys and values of new tokens behind those of one layer.
   * @param k [T, K·D], normalised and rotated
   * @param v [T, K·D]
   * @returns those of all tokens; in a window, of all that the new ones see
   */
  append(layer: number, k: tf.Tensor2D, v: tf.Tensor2D): CachedKeysValues {
    const rows = this.#layers[layer]!;
    invariant(rows instanceof CachedRows, `layer ${layer} has keys and values`);
    return rows.append(this.#length, this.#mark?.length ?? this.#length, k, v);
  }

  /** The state of a layer's mixer after the tokens so far, which the layer changes; undefined of a layer with attention. */
  stateOf(layer: number): State | undefined {
    const state = this.#layers[layer]!;
    return state instanceof CachedRows ? undefined : state;
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

  /** Remembers the states of now, so that `truncate` can come back here; what was remembered before is forgotten. */
  mark(): void {
    const states = this.#layers.map((_, layer) => {
      const state = this.stateOf(layer);
      return state && new Map([...state].map(([name, values]) => [name, values.slice()]));
    });
    this.#mark = { length: this.#length, states };
  }

  /**
   * Forgets all tokens but the first ones, so that another text can follow these.
   * @param tokens where layers have a state or a window, all tokens, none, or those at the last `mark`
   */
  truncate(tokens: number): void {
    invariant(tokens <= this.#length, `${tokens} tokens of ${this.#length}`);
    if (tokens === this.#length) return;
    for (const [layer, held] of this.#layers.entries()) {
      if (held instanceof CachedRows) held.truncate(tokens);
      else this.#restore(held, layer, tokens);
    }
    this.#length = tokens;
    if (this.#mark && this.#mark.length > tokens) this.#mark = undefined;
  }

  #restore(state: State, layer: number, tokens: number): void {
    const marked = this.#mark?.length === tokens ? this.#mark.states[layer] : undefined;
    invariant(tokens === 0 || marked, `the state after ${tokens} tokens was not marked`);
    for (const [name, values] of state) {
      if (tokens > 0) values.set(marked!.get(name)!);
      else values.fill(0);
    }
  }

  /** Forgets all tokens. */
  clear(): void {
    this.truncate(0);
  }
}

/** Zeros for the mixer of a layer; undefined where the layer has attention. */
function stateOf(layer: LayerModel): State | undefined {
  const active = activeMixer(layer);
  if (!active) return undefined;
  const sizes = Object.entries(active.mixer.states(active.settings, layer));
  return new Map(sizes.map(([name, size]) => [name, new Float32Array(size)]));
}

/** Gives back what a cache held that nobody has any more: memory of a device is not collected as that of the host is. */
const abandoned = new FinalizationRegistry<() => void>((release) => release());

/** Puts values into flat memory. */
function put(memory: FlatMemory, target: Floats, tensor: tf.Tensor): void {
  if (memory.takeTensor) memory.takeTensor(target, tensor, false);
  else memory.write(target, tensor.dataSync<'float32'>() as Float32Array);
}

/** The keys and values of one layer, without those that no later token sees, in the flat memory of the backend that runs. */
class CachedRows {
  readonly #memory = flatMemory();
  readonly #width: number;
  readonly #capacity: number;
  readonly #window: number;
  #keys: Floats;
  #values: Floats;
  /** The position of the first token whose row is held. */
  #first = 0;

  constructor(
    { numKeyValueHeads, headDim, window = Number.POSITIVE_INFINITY }: LayerModel,
    capacity: number,
  ) {
    this.#width = numKeyValueHeads * headDim;
    this.#capacity = capacity;
    this.#window = window;
    const rows = Math.min(capacity, 2 * window);
    this.#keys = this.#make(rows);
    this.#values = this.#make(rows);
  }

  #make(rows: number): Floats {
    const memory = this.#memory;
    const values = memory.make(rows * this.#width);
    abandoned.register(this, () => memory.release(values), values);
    return values;
  }

  /**
   * @param length tokens before the new ones
   * @param oldest the position of the earliest token that may still be the next
   */
  append(length: number, oldest: number, k: tf.Tensor2D, v: tf.Tensor2D): CachedKeysValues {
    this.#makeRoom(length, k.shape[0], Math.max(0, oldest - this.#window + 1));
    const begin = (length - this.#first) * this.#width;
    const end = begin + k.size;
    put(this.#memory, this.#keys.subarray(begin, end), k);
    put(this.#memory, this.#values.subarray(begin, end), v);
    return { keys: this.#keys, values: this.#values, tokens: length - this.#first + k.shape[0] };
  }

  /** Drops rows before `needed`, and takes more memory where that does not suffice. */
  #makeRoom(length: number, added: number, needed: number): void {
    const rows = this.#keys.length / this.#width;
    if (length - this.#first + added <= rows) return;
    const held = length - needed;
    const more = held + added <= rows ? rows : Math.min(this.#capacity, Math.max(2 * rows, held + added));
    const moved = (from: Floats) => {
      const to = more === rows ? from : this.#make(more);
      const [begin, end] = [(needed - this.#first) * this.#width, (length - this.#first) * this.#width];
      this.#memory.copy(to.subarray(0, end - begin), from.subarray(begin, end));
      if (to !== from) {
        abandoned.unregister(from);
        this.#memory.release(from);
      }
      return to;
    };
    this.#keys = moved(this.#keys);
    this.#values = moved(this.#values);
    this.#first = needed;
  }

  truncate(tokens: number): void {
    if (tokens === 0) this.#first = 0;
    const needed = Math.max(0, tokens - this.#window + 1);
    invariant(this.#first <= needed, `the window before token ${tokens} was dropped; mark it first`);
  }
}
