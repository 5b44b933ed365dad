/** Memory of `cuda` as fused operations use it: activations are bf16, whatever else tensors may be. */

import type * as tf from '@tensorflow/tfjs';
import type { Allocation, FusedMemory } from '../fusedMemory.ts';
import type { PoolStatistics } from '../pool.ts';
import type { CudaBackend } from './backend.ts';
import type { DeviceArray } from './device.ts';

type Bf16 = DeviceArray<'bf16'>;

export class BackendActivations implements FusedMemory<'cuda'> {
  readonly #backend: CudaBackend;

  constructor(backend: CudaBackend) {
    this.#backend = backend;
  }

  valuesOf(tensor: tf.TensorInfo): Bf16 {
    return this.#backend.roundedValuesOf(tensor);
  }

  allocate(shape: number[]): Allocation<Bf16> {
    return this.#backend.allocate(shape, 'bf16');
  }

  allocateOver(tensor: tf.TensorInfo): Allocation<Bf16> {
    if (this.#backend.valuesOf(tensor).storage !== 'bf16') return this.allocate(tensor.shape);
    return this.#backend.allocateOver(tensor) as Allocation<Bf16>;
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

  lendFloats(length: number): DeviceArray<'f32'> {
    return this.#backend.device.allocate(length, 'f32');
  }

  takeBack(lent: DeviceArray): void {
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
    return this.#backend.poolStatistics();
  }
}
