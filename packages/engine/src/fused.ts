/**
 * How a fused operation is run. Each lives in one file under `ops/`: a reference in plain `tf.*` operations, which is the
 * definition and serves every backend; a kernel for `native`; and the kernel's gradient.
 */

import * as tf from '@tensorflow/tfjs';
import { NATIVE_BACKEND, type NativeBackend, nativeBackend } from './backend.ts';
import { isRecording } from './parameter.ts';

/** What a kernel keeps for its gradient outside the tape: buffers of the pool, given back as soon as they were used. */
export class Saved {
  readonly #buffers = new Map<string, { buffer: ArrayBuffer; values: Float32Array | Int32Array }>();

  /** A buffer of `size` floats, to be found by the gradient under `name`. */
  floats(name: string, size: number): Float32Array {
    const buffer = nativeBackend().pool.take(size * 4);
    const values = new Float32Array(buffer, 0, size);
    this.#buffers.set(name, { buffer, values });
    return values;
  }

  get(name: string): Float32Array {
    return this.#buffers.get(name)!.values as Float32Array;
  }

  /** Gives all buffers back to the pool. */
  free(): void {
    for (const { buffer } of this.#buffers.values()) nativeBackend().pool.give(buffer);
    this.#buffers.clear();
  }
}

/** Everything a native kernel needs: tensors in, attributes, outputs from the pool. */
export interface KernelContext<Attributes> {
  readonly backend: NativeBackend;
  readonly attributes: Attributes;
  /** Values of the input tensor `name`. */
  floats(name: string): Float32Array;
  integers(name: string): Int32Array;
  shape(name: string): number[];
  /** A new output of arbitrary content. */
  output(shape: number[]): { info: tf.TensorInfo; values: Float32Array };
  /**
   * An output of the shape of input `name`, in that input's own memory where nobody else holds it (its values are then
   * the caller's no more), otherwise a new one.
   */
  outputOver(name: string): { info: tf.TensorInfo; values: Float32Array };
  /** Whether a backward pass will follow. */
  readonly recording: boolean;
}

interface FusedKernel<Attributes> {
  readonly name: string;
  /** Input tensors that the gradient needs. The tape keeps them until the gradient frees them. */
  readonly inputsToSave: readonly string[];
  readonly forward: (context: KernelContext<Attributes>) => tf.TensorInfo | tf.TensorInfo[];
  /**
   * Gradients with respect to the input tensors. `dy` and `saved` (in the order of `inputsToSave`) belong to it: it may
   * write over `dy`, and both are disposed when it returns.
   */
  readonly backward: (
    context: GradientContext<Attributes>,
    dys: readonly tf.Tensor[],
    saved: readonly tf.Tensor[],
  ) => Record<string, tf.Tensor>;
}

export interface GradientContext<Attributes> {
  readonly attributes: Attributes;
  valuesOf(tensor: tf.Tensor): Float32Array;
  /** A new tensor of arbitrary content from the pool. */
  tensor(shape: number[]): { tensor: tf.Tensor; values: Float32Array };
  /** A tensor of the shape of `tensor`, a `dy` or a saved one, in its memory where nobody else holds it. */
  over(tensor: tf.Tensor): { tensor: tf.Tensor; values: Float32Array };
  /** Another tensor with the same values. */
  share(tensor: tf.Tensor): tf.Tensor;
}

/** Registers a kernel for the `native` backend and its gradient. */
export function registerFused<Attributes extends object>(kernel: FusedKernel<Attributes>): void {
  tf.registerKernel({
    kernelName: kernel.name,
    backendName: NATIVE_BACKEND,
    kernelFunc: ({ inputs, backend, attrs }) => {
      const native = backend as NativeBackend;
      const tensors = inputs as Record<string, tf.TensorInfo>;
      return kernel.forward({
        backend: native,
        attributes: attrs as unknown as Attributes,
        floats: (name) => native.valuesOf(tensors[name]!) as Float32Array,
        integers: (name) => native.valuesOf(tensors[name]!) as Int32Array,
        shape: (name) => tensors[name]!.shape,
        output: (shape) => native.allocate(shape, 'float32') as { info: tf.TensorInfo; values: Float32Array },
        outputOver: (name) => native.allocateOver(tensors[name]!),
        recording: isRecording(),
      });
    },
  });
  tf.registerGradient({
    kernelName: kernel.name,
    inputsToSave: [...kernel.inputsToSave],
    gradFunc: (dy, saved, attrs) => {
      const dys = Array.isArray(dy) ? dy : [dy];
      const native = nativeBackend();
      const gradients = kernel.backward(
        {
          attributes: attrs as unknown as Attributes,
          valuesOf: (tensor) => native.valuesOf(tensor) as Float32Array,
          tensor: (shape) => {
            const { info, values } = native.allocate(shape, 'float32');
            return { tensor: tf.engine().makeTensorFromTensorInfo(info), values: values as Float32Array };
          },
          over: (tensor) => {
            const { info, values } = native.allocateOver(tensor);
            return { tensor: tf.engine().makeTensorFromTensorInfo(info), values };
          },
          share: (tensor) => tf.engine().makeTensorFromTensorInfo(native.share(tensor, tensor.shape)),
        },
        dys,
        saved,
      );
      for (const tensor of [...dys, ...saved]) tensor.dispose();
      return Object.fromEntries(Object.entries(gradients).map(([name, gradient]) => [name, () => gradient]));
    },
  });
}

/** Whether the running backend has the fused kernel; otherwise the reference is used. */
export function hasFused(kernelName: string): boolean {
  return tf.getKernel(kernelName, tf.getBackend()) != null;
}

/** Runs a fused kernel that gives one tensor. */
export function runFused<T extends tf.Tensor>(
  kernelName: string,
  inputs: tf.NamedTensorMap,
  attributes: object,
): T {
  return tf.engine().runKernel(kernelName, inputs, attributes as tf.NamedAttrMap) as T;
}

/** Runs a fused kernel that gives several tensors. */
export function runFusedMany(kernelName: string, inputs: tf.NamedTensorMap, attributes: object): tf.Tensor[] {
  return tf.engine().runKernel(kernelName, inputs, attributes as tf.NamedAttrMap) as tf.Tensor[];
}
