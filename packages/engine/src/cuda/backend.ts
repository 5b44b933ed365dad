/**
 * The `cuda` backend in TensorFlow.js: tensors lie in a device's memory. Of a tensor's values TensorFlow.js says `float32`, `int32` or
 * `bool`; whether those of a float tensor are stored as bf16 or as single precision is decided by whoever makes it, and reading gives
 * floats. Integers and booleans take four bytes. What has no place on a GPU (strings) stays on the host.
 *
 * All work goes by one stream, so that memory that is given back may be lent again at once.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import type { Allocation, FusedMemory } from '../fusedMemory.ts';
import type { Precision } from '../precision.ts';
import type { Activations, CudaDevice, DeviceArray } from './device.ts';
import { fill, narrow, widen } from './flatArithmetic.ts';
import type { OpenDevice } from './open.ts';

export const CUDA_BACKEND = 'cuda';

/** That of the kernels. It is raised with every change that makes a result other bits. */
const ARITHMETIC = 4;

/** How the values of a tensor may lie in a device's memory. */
export type TensorStorage = 'f32' | 'bf16' | 'i32';
export type TensorArray = DeviceArray<TensorStorage>;

interface Constant {
  readonly value: number;
  readonly length: number;
}

interface StoredTensor {
  readonly dtype: tf.DataType;
  refCount: number;
  /** None for strings and complex numbers, and while the values are forgotten. */
  array?: TensorArray;
  /** The same in bf16 where `array` is in single precision, or the other way, where it was asked for. */
  converted?: DeviceArray<'bf16' | 'f32'>;
  /** What all elements are, where that is one number: they have no memory until their values are asked for. */
  constant?: Constant;
  /**
   * Whether it holds what no operation on activations gave: numbers and arrays of the host, weights, and what was made of such alone. It
   * takes the storage of what it meets.
   */
  readonly yields?: boolean;
  /** Whether the memory is someone else's: it is neither written to nor given back. */
  readonly isView?: boolean;
  readonly strings?: Uint8Array[];
  readonly complexTensorInfos?: { readonly real: tf.TensorInfo; readonly imag: tf.TensorInfo };
  /** Computes the values once more, where that is possible. */
  rebuild?: () => void;
  /** Values that are on their way are there afterwards, for whatever is asked of the device. */
  arrival?: () => void;
}

type HostValues = tf.backend_util.BackendValues;

export class CudaBackend extends tf.KernelBackend {
  readonly device: CudaDevice;
  /** Of activations, and of weights in products. */
  precision: Precision = 'bf16';
  /** What computes, in words. */
  readonly description: string;
  readonly fusedMemory: FusedMemory<'cuda'>;
  readonly #architecture: string;
  readonly #storage: tf.DataStorage<StoredTensor>;

  constructor(
    { device, architecture, description }: OpenDevice,
    fusedMemoryOf: (backend: CudaBackend) => FusedMemory<'cuda'>,
  ) {
    super();
    this.description = description;
    this.device = device;
    this.#architecture = architecture;
    this.#storage = new tf.DataStorage(this, tf.engine());
    this.fusedMemory = fusedMemoryOf(this);
  }

  /**
   * Names what the bits of a result depend on: tensor cores of different kinds add up in different ways. In single precision there are
   * none, and all GPUs give the same.
   */
  get arithmetic(): string {
    return `${CUDA_BACKEND}-${ARITHMETIC}-${this.precision === 'bf16' ? this.#architecture : this.precision}`;
  }

  // For kernels.

  /** Where the values of a tensor lie, for a kernel that only reads them. */
  valuesOf({ dataId }: Pick<tf.TensorInfo, 'dataId'>): TensorArray {
    const stored = this.#storage.get(dataId);
    if (!stored.array && stored.constant)
      stored.array = this.#filled(stored.constant, stored.dtype === 'float32' ? 'f32' : 'i32');
    if (!stored.array) stored.rebuild?.();
    arrive(stored);
    invariant(stored.array, `a ${stored.dtype} tensor has no values on a device`);
    return stored.array;
  }

  /** The values of a float tensor in the precision of activations: themselves, or a copy that lives as long as they do. */
  activationsOf(tensor: tf.TensorInfo): Activations {
    return this.precision === 'bf16' ? this.#valuesAs(tensor, 'bf16', narrow) : this.floatsOf(tensor);
  }

  /** The same in single precision. */
  floatsOf(tensor: tf.TensorInfo): DeviceArray<'f32'> {
    return this.#valuesAs(tensor, 'f32', widen);
  }

  #valuesAs<S extends 'bf16' | 'f32'>(
    tensor: tf.TensorInfo,
    storage: S,
    convert: (to: DeviceArray<S>, from: DeviceArray<S extends 'f32' ? 'bf16' : 'f32'>) => void,
  ): DeviceArray<S> {
    const stored = this.#storage.get(tensor.dataId);
    if (stored.converted?.storage === storage) return stored.converted as DeviceArray<S>;
    if (stored.constant && !stored.array) {
      const values = this.#filled(stored.constant, storage);
      stored[storage === 'f32' ? 'array' : 'converted'] = values;
      return values;
    }
    const array = this.valuesOf(tensor);
    if (array.storage === storage) return array as DeviceArray<S>;
    invariant(array.storage !== 'i32', `a fused operation takes floats, and got ${tensor.dtype}`);
    const converted = this.device.allocate(array.length, storage);
    convert(converted, array as DeviceArray<S extends 'f32' ? 'bf16' : 'f32'>);
    stored.converted = converted;
    return converted;
  }

  /** A new tensor of arbitrary content. */
  allocate<S extends TensorStorage = 'f32'>(
    shape: number[],
    storage = 'f32' as S,
    dtype: tf.DataType = storage === 'i32' ? 'int32' : 'float32',
  ): Allocation<DeviceArray<S>> {
    const values = this.device.allocate(tf.util.sizeFromShape([...shape]), storage);
    return { info: this.#store({ dtype, refCount: 1, array: values }, shape), values };
  }

  /**
   * A new tensor for what one of TensorFlow.js's operations computes of `operands`. A float is bf16 where they are, single precision where
   * one of them was made so; those that yield, and integers, have no say where there are others.
   */
  allocateResult(
    shape: number[],
    dtype: tf.DataType,
    ...operands: readonly tf.TensorInfo[]
  ): Allocation<TensorArray> {
    if (dtype !== 'float32') return this.allocate<TensorStorage>(shape, 'i32', dtype);
    const deciding = operands.filter(
      ({ dataId, dtype }) => dtype === 'float32' && !this.#storage.get(dataId).yields,
    );
    const isNarrow =
      deciding.length > 0 && deciding.every((operand) => this.valuesOf(operand).storage === 'bf16');
    const values = this.device.allocate<TensorStorage>(
      tf.util.sizeFromShape([...shape]),
      isNarrow ? 'bf16' : 'f32',
    );
    const yields = deciding.length === 0;
    return { info: this.#store({ dtype, refCount: 1, array: values, yields }, shape), values };
  }

  /** A tensor that is one number everywhere. */
  constant(value: number, shape: number[], dtype: tf.DataType): tf.TensorInfo {
    const constant = { value, length: tf.util.sizeFromShape(shape) };
    return this.#store({ dtype, refCount: 1, constant, yields: true }, shape);
  }

  /** That number, of such a tensor. */
  constantOf({ dataId }: tf.TensorInfo): number | undefined {
    return this.#storage.get(dataId).constant?.value;
  }

  #filled<S extends TensorStorage>({ value, length }: Constant, storage: S): DeviceArray<S> {
    const array = this.device.allocate(length, storage);
    fill(array, value);
    return array;
  }

  /** A tensor like `tensor`: on the same memory where only that tensor holds it, otherwise on new memory. */
  allocateOver(tensor: tf.TensorInfo): Allocation<TensorArray> {
    const values = this.valuesOf(tensor);
    const { refCount, isView } = this.#storage.get(tensor.dataId);
    if (refCount === 1 && !isView) {
      delete this.#storage.get(tensor.dataId).constant;
      return { info: this.share(tensor, tensor.shape), values };
    }
    return this.allocate(tensor.shape, values.storage, tensor.dtype);
  }

  /** A tensor in memory that was taken from the device before, and that belongs to the tensor from now on. */
  adopt(array: TensorArray, shape: number[]): tf.TensorInfo {
    return this.#tensorIn(array, shape, false);
  }

  /** A tensor in memory that stays someone else's, as a parameter's is: it is not written to, and not given back. */
  view(array: TensorArray, shape: number[]): tf.TensorInfo {
    return this.#tensorIn(array, shape, true);
  }

  #tensorIn(array: TensorArray, shape: number[], isView: boolean): tf.TensorInfo {
    invariant(
      array.length === tf.util.sizeFromShape([...shape]),
      `${array.length} values for a tensor of shape [${shape}]`,
    );
    return this.#store(
      { dtype: array.storage === 'i32' ? 'int32' : 'float32', refCount: 1, array, isView, yields: isView },
      shape,
    );
  }

  #store(stored: StoredTensor, shape: number[]): tf.TensorInfo {
    const dataId = {};
    this.#storage.set(dataId, stored);
    return { dataId, shape, dtype: stored.dtype };
  }

  /** Another handle on the same values. */
  share({ dataId, dtype }: tf.TensorInfo, shape: number[]): tf.TensorInfo {
    this.incRef(dataId);
    return { dataId, shape, dtype };
  }

  /** From now on `rebuild` can compute a tensor's values once more; it ends with `restore`. */
  makeRebuildable({ dataId }: tf.TensorInfo, rebuild: () => void): void {
    this.#storage.get(dataId).rebuild = rebuild;
  }

  /** Gives the memory of a tensor back whose values can be rebuilt. Whoever reads them has them rebuilt first. */
  forget({ dataId }: tf.TensorInfo): void {
    const stored = this.#storage.get(dataId);
    if (!stored.rebuild || stored.isView) return;
    this.#freeArrays(stored);
  }

  /** Moves rebuilt values to the tensor that forgot them, if it is still there and has not got them yet. */
  restore({ dataId }: tf.TensorInfo, rebuilt: tf.TensorInfo): void {
    const stored = this.#storage.has(dataId) ? this.#storage.get(dataId) : undefined;
    if (!stored || stored.array) {
      this.disposeData(rebuilt.dataId);
      return;
    }
    stored.array = this.#storage.get(rebuilt.dataId).array!;
    this.#storage.delete(rebuilt.dataId);
  }

  /** Values of a tensor are on their way: before anybody uses them, or their memory, `arrival` is called, which sees to it that they are there. */
  expect({ dataId }: tf.TensorInfo, arrival: () => void): void {
    this.#storage.get(dataId).arrival = arrival;
  }

  #freeArrays(stored: StoredTensor): void {
    arrive(stored);
    if (stored.array && !stored.isView) this.device.free(stored.array);
    if (stored.converted) this.device.free(stored.converted);
    delete stored.array;
    delete stored.converted;
  }

  // For TensorFlow.js.

  /** Brings values to the device: floats in single precision. */
  override write(values: HostValues, _shape: number[], dtype: tf.DataType): object {
    const dataId = {};
    this.move(dataId, values, _shape, dtype, 1);
    return dataId;
  }

  /** Values of another backend under the identifier that they have there. */
  override move(
    dataId: object,
    values: HostValues,
    shape: number[],
    dtype: tf.DataType,
    refCount: number,
  ): void {
    this.#storage.set(dataId, { dtype, refCount, ...this.#contents(values, shape, dtype) });
  }

  #contents(values: HostValues, shape: number[], dtype: tf.DataType): Partial<StoredTensor> {
    if (dtype === 'string') return { strings: values as Uint8Array[] };
    if (dtype === 'complex64') {
      const { real, imag } = tf.backend_util.splitRealAndImagArrays(values as Float32Array);
      return { complexTensorInfos: { real: this.upload(real, shape), imag: this.upload(imag, shape) } };
    }
    if (dtype !== 'float32') return { array: this.device.upload(asIntegers(values as tf.TypedArray), 'i32') };
    const floats = asFloats(values as tf.TypedArray);
    const contents =
      floats.length === 1
        ? { constant: { value: floats[0]!, length: 1 } }
        : { array: this.device.upload(floats, 'f32') };
    return { ...contents, yields: true };
  }

  /** A new tensor with the values of the host. */
  upload(values: HostValues, shape: number[], dtype: tf.DataType = 'float32'): tf.TensorInfo {
    return { dataId: this.write(values, shape, dtype), shape, dtype };
  }

  override readSync(dataId: object): HostValues {
    const { dtype, strings, complexTensorInfos, constant } = this.#storage.get(dataId);
    if (strings) return strings;
    if (constant && dtype === 'float32') return new Float32Array(constant.length).fill(constant.value);
    if (complexTensorInfos) {
      const [real, imag] = [complexTensorInfos.real, complexTensorInfos.imag].map((part) =>
        this.readSync(part.dataId),
      ) as [Float32Array, Float32Array];
      return tf.backend_util.mergeRealAndImagArrays(real, imag);
    }
    const array = this.valuesOf({ dataId });
    if (dtype === 'bool') return Uint8Array.from(array.read());
    return array.storage === 'bf16' ? widened(array.read() as Uint16Array) : (array.read() as tf.TypedArray);
  }

  /** Lets other JavaScript run until the device has come so far. */
  override async read(dataId: object): Promise<HostValues> {
    // Nobody writes over the values, or frees them, meanwhile.
    this.incRef(dataId);
    try {
      await this.device.driver.done();
      return this.readSync(dataId);
    } finally {
      if (this.disposeData(dataId)) tf.engine().removeDataId(dataId, this);
    }
  }

  override disposeData(dataId: object, force = false): boolean {
    if (!this.#storage.has(dataId)) return true;
    const stored = this.#storage.get(dataId);
    stored.refCount--;
    if (!force && stored.refCount > 0) return false;
    const { complexTensorInfos: parts } = stored;
    if (parts) for (const { dataId: part } of [parts.real, parts.imag]) this.disposeData(part, true);
    this.#freeArrays(stored);
    this.#storage.delete(dataId);
    return true;
  }

  override refCount(dataId: object): number {
    return this.#storage.has(dataId) ? this.#storage.get(dataId).refCount : 0;
  }

  override incRef(dataId: object): void {
    this.#storage.get(dataId).refCount++;
  }

  override numDataIds(): number {
    return this.#storage.numDataIds();
  }

  override memory(): { unreliable: boolean; numBytesInGPU: number; numBytesInGPUAllocated: number } {
    const { usedBytes, allocatedBytes } = this.device.arena.statistics();
    return { unreliable: false, numBytesInGPU: usedBytes, numBytesInGPUAllocated: allocatedBytes };
  }

  override floatPrecision(): 32 {
    return 32;
  }

  /** What the device takes for the work of `f`. */
  override async time(f: () => void): Promise<{ kernelMs: number }> {
    return { kernelMs: await this.device.driver.time(f) };
  }

  override dispose(): void {
    this.device.dispose();
  }
}

/** The running backend, which must be `cuda`. */
export function cudaBackend(): CudaBackend {
  return tf.backend() as unknown as CudaBackend;
}

function arrive(stored: StoredTensor): void {
  const { arrival } = stored;
  delete stored.arrival;
  arrival?.();
}

function asFloats(values: tf.TypedArray): Float32Array {
  return values instanceof Float32Array ? values : Float32Array.from(values);
}

function asIntegers(values: tf.TypedArray): Int32Array {
  return values instanceof Int32Array ? values : Int32Array.from(values);
}

/** bf16 as floats. */
export function widened(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16;
  return new Float32Array(bits.buffer);
}
