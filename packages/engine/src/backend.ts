/**
 * The `native` backend: TensorFlow.js's own CPU backend, whose tensors are typed arrays, so that every TensorFlow.js
 * kernel works; on top, the outputs of our kernels come from a pool of memory that is used again.
 *
 * A pooled buffer belongs to one tensor's data (which several tensors may share) and goes back to the pool when that is
 * disposed. So nothing may keep a view of it: reading gives copies, and what a stock kernel returns as a view (as a
 * contiguous slice does) is copied.
 */

import * as tf from '@tensorflow/tfjs';
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import { type Allocation, type FusedMemory, fusedMemory } from './fusedMemory.ts';
import { makeBuffer } from './memory.ts';
import { nativeCore } from './native.ts';
import { BufferPool, type PoolStatistics } from './pool.ts';

export const NATIVE_BACKEND = 'native';

interface StoredTensor {
  values: tf.backend_util.BackendValues;
  readonly dtype: tf.DataType;
  refCount: number;
  readonly complexTensorInfos?: { readonly real: tf.TensorInfo; readonly imag: tf.TensorInfo };
  /** The pool's buffer under `values`, when it came from there. */
  pooled?: ArrayBuffer;
  /** Computes the values once more, where that is possible. */
  rebuild?: () => void;
}

export class NativeBackend extends MathBackendCPU implements FusedMemory {
  readonly pool = new BufferPool(makeBuffer);
  readonly fusedMemory = this;

  get #storage(): tf.DataStorage<StoredTensor> {
    return this.data as unknown as tf.DataStorage<StoredTensor>;
  }

  valuesOf(tensor: tf.TensorInfo): Float32Array {
    const values = this.#storage.get(tensor.dataId).values as tf.TypedArray;
    // A cast to a wider type shares the values of the narrower one.
    return values instanceof Float32Array ? values : Float32Array.from(values);
  }

  floatsOf(tensor: tf.TensorInfo): Float32Array {
    return this.valuesOf(tensor);
  }

  integersOf(tensor: tf.TensorInfo): Int32Array {
    return this.#storage.get(tensor.dataId).values as Int32Array;
  }

  allocate(shape: number[]): Allocation {
    const values = this.lend(tf.util.sizeFromShape(shape));
    return { info: this.adopt(values, shape), values };
  }

  allocateFloats(shape: number[]): Allocation {
    return this.allocate(shape);
  }

  allocateIntegers(shape: number[]): Allocation<Int32Array> {
    const length = tf.util.sizeFromShape(shape);
    const pooled = this.pool.take(length * 4);
    const values = new Int32Array(pooled, 0, length);
    return { info: this.#store({ values, dtype: 'int32', refCount: 1, pooled }, shape), values };
  }

  lend(length: number): Float32Array {
    return new Float32Array(this.pool.take(length * 4), 0, length);
  }

  lendFloats(length: number): Float32Array {
    return this.lend(length);
  }

  takeBack(lent: Float32Array): void {
    this.pool.give(lent.buffer as ArrayBuffer);
  }

  adopt(lent: Float32Array, shape: number[]): tf.TensorInfo {
    const pooled = lent.buffer as ArrayBuffer;
    return this.#store({ values: lent, dtype: 'float32', refCount: 1, pooled }, shape);
  }

  allocateOver(tensor: tf.TensorInfo): Allocation {
    const stored = this.#storage.get(tensor.dataId);
    // Reading the values first brings forgotten ones back.
    const { values } = stored;
    const { pooled, refCount, dtype } = stored;
    if (pooled && refCount === 1 && dtype === 'float32') {
      return { info: this.share(tensor, tensor.shape), values: values as Float32Array };
    }
    return this.allocate(tensor.shape);
  }

  #store(stored: StoredTensor, shape: number[]): tf.TensorInfo {
    const dataId = {};
    this.#storage.set(dataId, stored);
    return { dataId, shape, dtype: stored.dtype };
  }

  makeRebuildable({ dataId }: tf.TensorInfo, rebuild: () => void): void {
    this.#storage.get(dataId).rebuild = rebuild;
  }

  forget({ dataId }: tf.TensorInfo): void {
    const stored = this.#storage.get(dataId);
    const { pooled, rebuild } = stored;
    if (!pooled || !rebuild) return;
    Object.defineProperty(stored, 'values', {
      configurable: true,
      get: () => {
        rebuild();
        return stored.values;
      },
    });
    delete stored.pooled;
    this.pool.give(pooled);
  }

  restore({ dataId }: tf.TensorInfo, rebuilt: tf.TensorInfo): void {
    const stored = this.#storage.has(dataId) ? this.#storage.get(dataId) : undefined;
    if (!stored || stored.pooled) {
      this.disposeData(rebuilt.dataId);
      return;
    }
    const { values, pooled } = this.#storage.get(rebuilt.dataId);
    this.#storage.delete(rebuilt.dataId);
    Object.defineProperty(stored, 'values', { configurable: true, writable: true, value: values });
    stored.pooled = pooled!;
  }

  share(tensor: tf.TensorInfo, shape: number[]): tf.TensorInfo {
    this.incRef(tensor.dataId);
    return { dataId: tensor.dataId, shape, dtype: tensor.dtype };
  }

  /** Gives the tensor memory of its own where its values are a view of another tensor's buffer. */
  separate(tensor: tf.TensorInfo): void {
    const stored = this.#storage.get(tensor.dataId);
    if (stored.complexTensorInfos) {
      this.separate(stored.complexTensorInfos.real);
      this.separate(stored.complexTensorInfos.imag);
    }
    const view = stored.values;
    if (stored.pooled || !(view instanceof Float32Array || view instanceof Int32Array)) return;
    if (!this.pool.hasLent(view.buffer)) return;
    stored.pooled = this.pool.take(view.byteLength);
    const Values = view.constructor as Float32ArrayConstructor;
    stored.values = new Values(stored.pooled, 0, view.length);
    stored.values.set(view);
  }

  /** As in the plain backend, but without its advice to install another. */
  override write(values: tf.backend_util.BackendValues, _shape: number[], dtype: tf.DataType): object {
    return this.#store({ values, dtype, refCount: 1 }, []).dataId;
  }

  override disposeData(dataId: object, force = false): boolean {
    const pooled = this.#storage.has(dataId) ? this.#storage.get(dataId).pooled : undefined;
    const isGone = super.disposeData(dataId, force);
    if (isGone && pooled) this.pool.give(pooled);
    return isGone;
  }

  /** The values as the caller's own: a copy where the memory will be used again. */
  override readSync(dataId: object): tf.backend_util.BackendValues {
    const values = super.readSync(dataId);
    return this.#storage.get(dataId).pooled ? (values as tf.TypedArray).slice() : values;
  }

  poolStatistics(): PoolStatistics {
    return this.pool.statistics();
  }

  override dispose(): void {
    super.dispose();
    this.pool.trim();
  }
}

/** A kernel of the plain CPU backend, whose outputs may be views of its inputs, made fit for pooled memory. */
export function keepMemoryApart(kernel: tf.KernelFunc): tf.KernelFunc {
  return (call) => {
    const outputs = kernel(call);
    for (const output of [outputs].flat()) (call.backend as NativeBackend).separate(output);
    return outputs;
  };
}

/** Kernels of the plain CPU backend serve `native` too, where none of ours takes their place. */
export function registerNativeBackend(): void {
  if (!nativeCore()) return;
  for (const kernel of tf.getKernelsForBackend('cpu')) {
    if (tf.getKernel(kernel.kernelName, NATIVE_BACKEND)) continue;
    const kernelFunc = keepMemoryApart(kernel.kernelFunc);
    tf.registerKernel({ ...kernel, backendName: NATIVE_BACKEND, kernelFunc });
  }
  tf.registerBackend(NATIVE_BACKEND, () => new NativeBackend(), 10);
}

/** The running backend, which must be `native`. */
export function nativeBackend(): NativeBackend {
  return tf.backend() as unknown as NativeBackend;
}

/** The values of a float tensor on any backend, only to be read, and only at once. */
export function readValues(tensor: tf.Tensor): Float32Array {
  if (tf.getBackend() === NATIVE_BACKEND) return nativeBackend().valuesOf(tensor);
  return tensor.dataSync<'float32'>() as Float32Array;
}

/** What the pool of the running backend holds; zeros where it has none. */
export function poolStatistics(): PoolStatistics {
  return fusedMemory()?.poolStatistics() ?? new BufferPool().statistics();
}
