/**
 * The memory of a backend that has fused operations, as these see it: tensors, arrays that are lent to them, and what they keep
 * for their gradients. Each backend has arrays of its own kind; what is done with them is the same everywhere.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import type { Activations, DeviceArray } from './cuda/device.ts';
import type { PoolStatistics } from './pool.ts';
import { keepWhileRecording, noLongerKept } from './tape.ts';

/** What kernels of the backends are given: activations in the precision that these have there, single-precision floats, whole numbers. */
interface BackendArrays {
  native: { activations: Float32Array; floats: Float32Array; integers: Int32Array };
  cuda: { activations: Activations; floats: DeviceArray<'f32'>; integers: DeviceArray<'i32'> };
}

export type FusedBackend = keyof BackendArrays;
export type ActivationsOf<B extends FusedBackend> = BackendArrays[B]['activations'];
export type FloatsOf<B extends FusedBackend> = BackendArrays[B]['floats'];
export type IntegersOf<B extends FusedBackend> = BackendArrays[B]['integers'];

/** A new output and the memory to write it to. */
export interface Allocation<Values = Float32Array> {
  readonly info: tf.TensorInfo;
  readonly values: Values;
}

export interface FusedMemory<B extends FusedBackend = 'native'> {
  /** The values of a float tensor, for a kernel that neither keeps nor returns a view of them. */
  valuesOf(tensor: tf.TensorInfo): ActivationsOf<B>;
  /** The same in single precision. */
  floatsOf(tensor: tf.TensorInfo): FloatsOf<B>;
  /** The values of an integer tensor. */
  integersOf(tensor: tf.TensorInfo): IntegersOf<B>;
  /** A new float tensor of arbitrary content. */
  allocate(shape: number[]): Allocation<ActivationsOf<B>>;
  /** The same in single precision. */
  allocateFloats(shape: number[]): Allocation<FloatsOf<B>>;
  /** A new integer tensor of arbitrary content. */
  allocateIntegers(shape: number[]): Allocation<IntegersOf<B>>;
  /** A float tensor like `tensor`: on the same memory where only that tensor holds it, otherwise on new memory. */
  allocateOver(tensor: tf.TensorInfo): Allocation<ActivationsOf<B>>;
  /** Another handle on the same values. */
  share(tensor: tf.TensorInfo, shape: number[]): tf.TensorInfo;
  disposeData(dataId: object): boolean;

  /** Memory of arbitrary content that belongs to no tensor, until `takeBack` or `adopt`. */
  lend(length: number): ActivationsOf<B>;
  lendFloats(length: number): FloatsOf<B>;
  takeBack(lent: ActivationsOf<B> | FloatsOf<B>): void;
  /** A tensor in memory that was lent, and that belongs to the tensor from now on. */
  adopt(lent: ActivationsOf<B>, shape: number[]): tf.TensorInfo;

  /** From now on `rebuild` can compute a tensor's values once more; it ends with `restore`. */
  makeRebuildable(tensor: tf.TensorInfo, rebuild: () => void): void;
  /** Gives the memory of a tensor back whose values can be rebuilt. Whoever reads them has them rebuilt first. */
  forget(tensor: tf.TensorInfo): void;
  /** Moves rebuilt values to the tensor that forgot them, if it is still there and has not got them yet. */
  restore(tensor: tf.TensorInfo, rebuilt: tf.TensorInfo): void;

  poolStatistics(): PoolStatistics;
}

/** That of the running backend; undefined where it has no fused operations. */
export function fusedMemory(): FusedMemory | undefined {
  return (tf.backend() as { fusedMemory?: FusedMemory }).fusedMemory;
}

/**
 * What an operation keeps for its gradient outside the tape, in lent memory. It is given back when the gradient is there; at the
 * end of the backward pass in any case; and at once where nothing is recorded.
 */
export class Saved<B extends FusedBackend = 'native'> {
  readonly #memory: FusedMemory<B>;
  readonly #lent = new Map<string, ActivationsOf<B> | FloatsOf<B>>();

  constructor(memory: FusedMemory<B>) {
    this.#memory = memory;
  }

  /** New memory for `length` activations, to be found under `name`; without a length, what is to be found there. */
  activations(name: string, length?: number): ActivationsOf<B> {
    if (length !== undefined) this.#save(name, this.#memory.lend(length));
    return this.#saved(name) as ActivationsOf<B>;
  }

  /** As `activations`, for single-precision floats. */
  floats(name: string, length?: number): FloatsOf<B> {
    if (length !== undefined) this.#save(name, this.#memory.lendFloats(length));
    return this.#saved(name) as FloatsOf<B>;
  }

  /** Activations that were saved, as a tensor that the memory belongs to from now on. */
  tensor(name: string, shape: number[]): tf.Tensor {
    const info = this.#memory.adopt(this.activations(name), shape);
    this.#lent.delete(name);
    return tf.engine().makeTensorFromTensorInfo(info);
  }

  #save(name: string, lent: ActivationsOf<B> | FloatsOf<B>): void {
    invariant(!this.#lent.has(name), `"${name}" is saved already`);
    this.#lent.set(name, lent);
    keepWhileRecording(this);
  }

  #saved(name: string): ActivationsOf<B> | FloatsOf<B> {
    const saved = this.#lent.get(name);
    invariant(saved, `nothing is saved as "${name}"`);
    return saved;
  }

  /** Gives one array back, or all that are left. */
  free(name?: string): void {
    const names = name === undefined ? [...this.#lent.keys()] : [name];
    for (const each of names) {
      this.#memory.takeBack(this.#saved(each));
      this.#lent.delete(each);
    }
    if (this.#lent.size === 0) noLongerKept(this);
  }
}
