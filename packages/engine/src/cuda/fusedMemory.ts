/** A device's memory as fused operations see it: their activations are bf16, or float where that precision was asked for. */

import type * as tf from '@tensorflow/tfjs';
import type { Allocation, FusedMemory } from '../fusedMemory.ts';
import type { PoolStatistics } from '../pool.ts';
import type { CudaBackend } from './backend.ts';
import type { Activations, DeviceArray } from './device.ts';

type Floats = DeviceArray<'f32'>;

export class CudaFusedMemory implements FusedMemory<'cuda'> {
  readonly #backend: CudaBackend;

  constructor(backend: CudaBackend) {
    this.#backend = backend;
  }

  /** Of a tensor in another precision, as TensorFlow.js's operations may give it, the nearest values in that of activations. */
  valuesOf(tensor: tf.TensorInfo): Activations {
    return this.#backend.activationsOf(tensor);
  }

  floatsOf(tensor: tf.TensorInfo): Floats {
    return this.#backend.floatsOf(tensor);
  }

  integersOf(tensor: tf.TensorInfo): DeviceArray<'i32'> {
    return this.#backend.valuesOf(tensor) as DeviceArray<'i32'>;
  }

  allocate(shape: number[]): Allocation<Activations> {
    return this.#backend.allocate(shape, this.#backend.precision);
  }

  allocateFloats(shape: number[]): Allocation<Floats> {
    return this.#backend.allocate(shape, 'f32');
  }

  allocateIntegers(shape: number[]): Allocation<DeviceArray<'i32'>> {
    return this.#backend.allocate(shape, 'i32');
  }

  allocateOver(tensor: tf.TensorInfo): Allocation<Activations> {
    const isAlike = this.#backend.valuesOf(tensor).storage === this.#backend.precision;
    return isAlike
      ? (this.#backend.allocateOver(tensor) as Allocation<Activations>)
      : this.allocate(tensor.shape);
  }

  share(tensor: tf.TensorInfo, shape: number[]): tf.TensorInfo {
    return this.#backend.share(tensor, shape);
  }

  disposeData(dataId: object): boolean {
    return this.#backend.disposeData(dataId);
  }

  lend(length: number): Activations {
    return this.#backend.device.allocate(length, this.#backend.precision);
  }

  lendFloats(length: number): Floats {
    return this.#backend.device.allocate(length, 'f32');
  }

  takeBack(lent: Activations | Floats): void {
    this.#backend.device.free(lent);
  }

  adopt(lent: Activations, shape: number[]): tf.TensorInfo {
    return this.#backend.adopt(lent, shape);
  }

  makeRebuildable(tensor: tf.TensorInfo, rebuild: () => void): void {
    this.#backend.makeRebuildable(tensor, rebuild);
  }

  forget(tensor: tf.TensorInfo): void {
    this.#backend.forget(tensor);
  }

  restore(tensor: tf.TensorInfo, rebuilt: tf.TensorInfo): void {
    this.#backend.restore(tensor, rebuilt);
  }

  poolStatistics(): PoolStatistics {
    return this.#backend.device.arena.statistics();
  }
}
