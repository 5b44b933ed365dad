/**
 * The `native` backend: TensorFlow.js's own CPU backend, whose tensors are typed arrays, so that every TensorFlow.js
 * kernel works; on top, the outputs of our kernels come from a pool of memory that is used again.
 *
 * A pooled buffer goes back to the pool when its last tensor is disposed, unless a kernel that is not ours has seen it:
 * such kernels may keep a view (a contiguous slice does), so the buffer is then left to the garbage collector.
 */

import * as tf from '@tensorflow/tfjs';
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import { nativeCore } from './native.ts';
import { BufferPool, type PoolStatistics } from './pool.ts';

export const NATIVE_BACKEND = 'native';

interface StoredTensor {
  values: tf.backend_util.BackendValues;
  dtype: tf.DataType;
  complexTensorInfos?: { real: tf.TensorInfo; imag: tf.TensorInfo };
  refCount: number;
  /** The pool's buffer under `values`, when it came from there. */
  pooled?: ArrayBuffer;
  /** Whether code other than our kernels has looked at `values`. */
  seen?: boolean;
}

/** The storage that stock kernels read: looking at a pooled tensor's values marks it as seen. */
class WatchedStorage extends tf.DataStorage<StoredTensor> {
  override get(dataId: object): StoredTensor {
    const stored = super.get(dataId);
    if (stored?.pooled) stored.seen = true;
    return stored;
  }

  /** Like `get`, for code that keeps no view. */
  peek(dataId: object): StoredTensor {
    return super.get(dataId);
  }
}

export class NativeBackend extends MathBackendCPU {
  readonly pool = new BufferPool();
  readonly #storage: WatchedStorage;

  constructor() {
    super();
    this.#storage = new WatchedStorage(this, tf.engine());
    this.data = this.#storage as unknown as typeof this.data;
  }

  /** The values of a tensor, for a kernel that neither keeps nor returns a view of them. */
  valuesOf(tensor: tf.TensorInfo): tf.TypedArray {
    return this.#storage.peek(tensor.dataId).values as tf.TypedArray;
  }

  /** A new tensor of arbitrary content from the pool. */
  allocate(
    shape: number[],
    dtype: 'float32' | 'int32',
  ): { info: tf.TensorInfo; values: Float32Array | Int32Array } {
    const size = tf.util.sizeFromShape(shape);
    const pooled = this.pool.take(size * 4);
    const values = dtype === 'float32' ? new Float32Array(pooled, 0, size) : new Int32Array(pooled, 0, size);
    const dataId = {};
    this.#storage.set(dataId, { values, dtype, refCount: 1, pooled });
    return { info: { dataId, shape, dtype }, values };
  }

  /** A float tensor like `tensor`: on the same memory where only that tensor holds it, otherwise on new memory. */
  allocateOver(tensor: tf.TensorInfo): { info: tf.TensorInfo; values: Float32Array } {
    const { values, pooled, seen, refCount, dtype } = this.#storage.peek(tensor.dataId);
    if (pooled && !seen && refCount === 1 && dtype === 'float32') {
      return { info: this.share(tensor, tensor.shape), values: values as Float32Array };
    }
    return this.allocate(tensor.shape, 'float32') as { info: tf.TensorInfo; values: Float32Array };
  }

  /** Another handle on the same values. */
  share(tensor: tf.TensorInfo, shape: number[]): tf.TensorInfo {
    this.incRef(tensor.dataId);
    return { dataId: tensor.dataId, shape, dtype: tensor.dtype };
  }

  override incRef(dataId: object): void {
    this.#storage.peek(dataId).refCount++;
  }

  override decRef(dataId: object): void {
    if (this.#storage.has(dataId)) this.#storage.peek(dataId).refCount--;
  }

  override refCount(dataId: object): number {
    return this.#storage.has(dataId) ? this.#storage.peek(dataId).refCount : 0;
  }

  override disposeData(dataId: object, force = false): boolean {
    if (!this.#storage.has(dataId)) return true;
    const stored = this.#storage.peek(dataId);
    stored.refCount--;
    if (!force && stored.refCount > 0) return false;
    if (stored.complexTensorInfos) {
      this.disposeData(stored.complexTensorInfos.real.dataId, true);
      this.disposeData(stored.complexTensorInfos.imag.dataId, true);
    }
    if (stored.pooled) {
      if (stored.seen) this.pool.forget(stored.pooled);
      else this.pool.give(stored.pooled);
    }
    this.#storage.delete(dataId);
    return true;
  }

  /** The values as the caller's own: a copy where the memory will be used again. */
  override readSync(dataId: object): tf.backend_util.BackendValues {
    const stored = this.#storage.peek(dataId);
    return stored.pooled ? (stored.values as tf.TypedArray).slice() : super.readSync(dataId);
  }

  override async read(dataId: object): Promise<tf.backend_util.BackendValues> {
    return this.readSync(dataId);
  }

  statistics(): PoolStatistics {
    return this.pool.statistics();
  }
}

/** Kernels of the plain CPU backend serve `native` too, until one of ours takes their place. */
export function registerNativeBackend(): void {
  if (!nativeCore()) return;
  for (const kernel of tf.getKernelsForBackend('cpu')) {
    if (!tf.getKernel(kernel.kernelName, NATIVE_BACKEND))
      tf.registerKernel({ ...kernel, backendName: NATIVE_BACKEND });
  }
  tf.registerBackend(NATIVE_BACKEND, () => new NativeBackend(), 10);
}

/** The running backend, which must be `native`. */
export function nativeBackend(): NativeBackend {
  return tf.backend() as unknown as NativeBackend;
}
