/** A device's memory as fused operations see it: their activations are bf16. */

import type * as tf from '@tensorflow/tfjs';
import type { Allocation, FusedMemory } from '../fusedMemory.ts';
import type { PoolStatistics } from '../pool.ts';
import type { CudaBackend } from './backend.ts';
import type { DeviceArray } from './device.ts';

type Bf16 = DeviceArray<'bf16'>;
type Floats = DeviceArray<'f32'>;

export class CudaFusedMemory implements FusedMemory<'cuda'> {
  readonly #backend: CudaBackend;

  constructor(backend: CudaBackend) {
    this.#backend = backend;
  }

  /** Of a tensor in single precision, as TensorFlow.js's operations may give it, the nearest bf16. */
  valuesOf(tensor: tf.TensorInfo): Bf16 {
    return this.#backend.roundedValuesOf(tensor);
  }

  floatsOf(tensor: tf.TensorInfo): Floats {
    return this.#backend.floatsOf(tensor);
  }

  integersOf(tensor: tf.TensorInfo): DeviceArray<'i32'> {
    return this.#backend.valuesOf(tensor) as DeviceArray<'i32'>;
  }

  allocate(shape: number[]): Allocation<Bf16> {
    return this.#backend.allocate(shape, 'bf16');
  }

  allocateFloats(shape: number[]): Allocation<Floats> {
    return this.#backend.allocate(shape, 'f32');
  }

  allocateIntegers(shape: number[]): Allocation<DeviceArray<'i32'>> {
    return this.#backend.allocate(shape, 'i32');
  }

  allocateOver(tensor: tf.TensorInfo): Allocation<Bf16> {
    const isBf16 = this.#backend.valuesOf(tensor).storage === 'bf16';
    return isBf16 ? (this.#backend.allocateOver(tensor) as Allocation<Bf16>) : this.allocate(tensor.shape);
  }

  share(tensor: tf.TensorInfo, shape: number[]): tf.TensorInfo {
    return this.#backend.share(tensor, shape);
  }

  disposeData(dataId: object): boolean {
    return this.#backend.disposeData(dataId);
  }

  lend(length: number): Bf16 {
    return this.#backend.device.allocate(length, 'bf16');
  }

  lendFloats(length: number): Floats {
    return this.#backend.device.allocate(length, 'f32');
  }

  takeBack(lent: Bf16 | Floats): void {
    this.#backend.device.free(lent);
  }

  adopt(lent: Bf16, shape: number[]): tf.TensorInfo {
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
