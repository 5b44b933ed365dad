/**
 * Parameters and the way their gradients take. A parameter's values lie in a flat buffer that the optimizer updates and
 * the collectives send; its gradient is written, or added, straight into another flat buffer as soon as it is known.
 */

import * as tf from '@tensorflow/tfjs';
import { NATIVE_BACKEND } from './backend.ts';
import { changeOnHost, flatMemory } from './flatMemory.ts';
import type { Floats } from './floats.ts';
import { whenRead } from './reads.ts';
import { sumInto } from './reductions.ts';
import { currentAnchor } from './tape.ts';

/** Where a gradient goes: `accumulate` says whether to add to what is there or to overwrite it. */
export interface GradientTarget {
  readonly values: Floats;
  readonly accumulate: boolean;
}

/**
 * Hands out the place for one contribution to a parameter's gradient.
 * @param source which peer's tokens the contribution comes from (experts only; otherwise 0)
 */
export type GradientSink = (source: number) => GradientTarget;

export class Parameter<Values extends Floats = Floats> {
  readonly name: string;
  readonly shape: readonly number[];
  /** Set by the trainer; without one, gradients are dropped. */
  sink: GradientSink | undefined;
  /** Counts how often the values were changed. */
  version = 0;
  readonly #values: Values;
  /** Where these lie. */
  readonly #memory = flatMemory();
  /** Give back what was made of the values beside them. */
  readonly #releases: (() => void)[] = [];
  #arrival: (() => void) | undefined;
  #tensor: tf.Tensor | undefined;
  #unwanted: Floats | undefined;

  constructor(name: string, shape: readonly number[], values: Values) {
    if (values.length !== tf.util.sizeFromShape([...shape])) {
      throw new Error(`Parameter ${name}: ${values.length} values for shape [${shape}].`);
    }
    this.name = name;
    this.shape = shape;
    this.#values = values;
  }

  /** One whose values are all the same, in memory of its own. */
  static filled(name: string, shape: readonly number[], value: number): Parameter {
    const values = flatMemory().make(tf.util.sizeFromShape([...shape]));
    flatMemory().fill(values, value);
    return new Parameter(name, shape, values);
  }

  /** Row-major values, normally a range of a flat buffer. Waits for them where they are still on their way. */
  get values(): Values {
    const arrival = this.#arrival;
    if (arrival !== undefined) {
      this.#arrival = undefined;
      arrival();
    }
    return this.#values;
  }

  /** The values on the host: themselves where they lie there, otherwise a copy. */
  get hostValues(): Float32Array {
    return flatMemory().read(this.values);
  }

  /** New values are on their way: whoever needs them first calls `arrival`, which blocks until they have come. */
  expect(arrival: () => void): void {
    this.#arrival = arrival;
    this.refresh();
  }

  /** The values as a tensor that belongs to the parameter: never dispose it. */
  get tensor(): tf.Tensor {
    if (!this.#tensor || this.#tensor.isDisposed) {
      this.#tensor = tf.keep(flatMemory().tensor(this.values, this.shape));
    }
    return this.#tensor;
  }

  /** Call after `values` were changed. Backends that keep their own copy of the values take a new one. */
  refresh(): void {
    this.version++;
    if (tf.getBackend() === NATIVE_BACKEND || tf.getBackend() === 'cpu') return;
    this.#tensor?.dispose();
    this.#tensor = undefined;
  }

  /** Has `release` called when the values are given back: whoever keeps something that was made of them gives that back, too. */
  whenReleased(release: () => void): void {
    this.#releases.push(release);
  }

  /** Gives back values that are in memory of their own, and what was made of them; the parameter is not used any more. */
  release(): void {
    this.#tensor?.dispose();
    for (const release of this.#releases.splice(0)) release();
    for (const values of [this.#values, this.#unwanted]) if (values) this.#memory.release(values);
  }

  /** Lets `write` put one contribution to the gradient where it belongs. */
  contribute(write: (target: GradientTarget) => void, source = 0): void {
    write(this.sink?.(source) ?? { values: this.#unwantedGradient(), accumulate: false });
  }

  /**
   * The parameter as an operand of plain `tf.*` operations. During `computeGradients` the tape leads its gradient into
   * the flat buffer and frees it. Dispose the result, or let a `tf.tidy` do so.
   */
  onTape(source = 0): tf.Tensor {
    const anchor = currentAnchor();
    if (!anchor) return this.tensor.clone();
    const leaf = tf.customGrad(() => ({
      value: this.tensor.clone(),
      gradFunc: (dy: tf.Tensor) => {
        this.#contributeTensor(dy, source);
        return tf.scalar(0);
      },
    }));
    return leaf(anchor);
  }

  #contributeTensor(gradient: tf.Tensor, source: number): void {
    const memory = flatMemory();
    if (memory.takeTensor) {
      this.contribute((target) => memory.takeTensor!(target.values, gradient, target.accumulate), source);
      return;
    }
    whenRead([gradient], (values) =>
      this.contribute((target) => {
        if (target.accumulate) changeOnHost(target.values, (sum) => sumInto(sum, values));
        else memory.write(target.values, values);
      }, source),
    );
  }

  /** Where a gradient is written that has no sink. */
  #unwantedGradient(): Floats {
    this.#unwanted ??= flatMemory().make(this.#values.length);
    return this.#unwanted;
  }
}
