/**
 * How a fused operation is run. Each lives in one file under `ops/`: a reference in plain `tf.*` operations, which is the
 * definition and serves every backend; a kernel for `native`; and the kernel's gradient.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { type Allocation, NATIVE_BACKEND, type NativeBackend, nativeBackend } from './backend.ts';
import { Parameter } from './parameter.ts';
import {
  currentAnchor,
  isKernelRecorded,
  isRecording,
  keepWhileRecording,
  noLongerKept,
  ownsGradients,
} from './tape.ts';

/** What a kernel keeps for its gradient outside the tape: buffers of the pool, given back as soon as they were used. */
export class Saved {
  readonly #buffers = new Map<string, { buffer: ArrayBuffer; values: Float32Array }>();

  /** A buffer of `size` floats, to be found by the gradient under `name`. */
  floats(name: string, size: number): Float32Array {
    invariant(!this.#buffers.has(name), `"${name}" is saved already`);
    const buffer = nativeBackend().pool.take(size * 4);
    const values = new Float32Array(buffer, 0, size);
    this.#buffers.set(name, { buffer, values });
    keepWhileRecording(this);
    return values;
  }

  get(name: string): Float32Array {
    return this.#saved(name).values;
  }

  /** What was saved, as a tensor that the memory belongs to from now on. */
  tensor(name: string, shape: number[]): tf.Tensor {
    const { buffer } = this.#saved(name);
    this.#buffers.delete(name);
    return tf.engine().makeTensorFromTensorInfo(nativeBackend().adopt(buffer, shape));
  }

  #saved(name: string) {
    const saved = this.#buffers.get(name);
    invariant(saved, `nothing is saved as "${name}"`);
    return saved;
  }

  /** Gives all buffers back to the pool. At the end of the backward pass this happens in any case. */
  free(): void {
    for (const { buffer } of this.#buffers.values()) nativeBackend().pool.give(buffer);
    this.#buffers.clear();
    noLongerKept(this);
  }
}

/** Everything a native kernel needs: tensors in, attributes, outputs from the pool. */
export interface KernelContext<Attributes> {
  readonly attributes: Attributes;
  /** Values of the input tensor `name`. */
  floats(name: string): Float32Array;
  shape(name: string): number[];
  /** A new output of arbitrary content. */
  output(shape: number[]): Allocation;
  /**
   * An output of the shape of input `name`, in that input's own memory where nobody else holds it (its values are then
   * the caller's no more), otherwise a new one.
   */
  outputOver(name: string): Allocation;
  /** Whether a backward pass will follow. */
  readonly recording: boolean;
}

export interface GradientContext<Attributes> {
  readonly attributes: Attributes;
  /** Only to be read: other tensors may share the values. */
  valuesOf(tensor: tf.Tensor): Float32Array;
  /** A new tensor of arbitrary content from the pool. */
  tensor(shape: number[]): { tensor: tf.Tensor; values: Float32Array };
  /** A tensor like `tensor`, a `dy` or a saved one, to be written: on its memory where nobody else holds it. */
  over(tensor: tf.Tensor): { tensor: tf.Tensor; values: Float32Array };
  /** Another tensor with the same values. */
  share(tensor: tf.Tensor): tf.Tensor;
}

interface FusedKernel<Attributes> {
  readonly name: string;
  /** Input tensors that the gradient needs. The tape keeps them until then. */
  readonly inputsToSave: readonly string[];
  /** Which outputs the gradient needs; none when left out. */
  readonly outputsToSave?: readonly boolean[];
  /**
   * Whether `forward` may run once more from the saved inputs, all of which it must have, so that `forgetUntilGradient`
   * can give the memory of its outputs back. For kernels that are cheap beside the memory of their outputs.
   */
  readonly rebuildable?: boolean;
  readonly forward: (context: KernelContext<Attributes>) => tf.TensorInfo | tf.TensorInfo[];
  /**
   * Gradients with respect to the input tensors.
   * @param dys gradients of the outputs, in order
   * @param saved inputs in the order of `inputsToSave`, then outputs; like `dys` they are freed afterwards
   */
  readonly backward: (
    context: GradientContext<Attributes>,
    dys: readonly tf.Tensor[],
    saved: readonly tf.Tensor[],
  ) => Record<string, tf.Tensor>;
}

/** Registers a kernel for the `native` backend and its gradient. */
export function registerFused<Attributes extends object>(kernel: FusedKernel<Attributes>): void {
  tf.registerKernel({
    kernelName: kernel.name,
    backendName: NATIVE_BACKEND,
    kernelFunc: ({ inputs, backend, attrs }) =>
      runForward(kernel, inputs as Record<string, tf.TensorInfo>, backend as NativeBackend, attrs),
  });
  tf.registerGradient({
    kernelName: kernel.name,
    inputsToSave: [...kernel.inputsToSave],
    outputsToSave: [...(kernel.outputsToSave ?? [])],
    gradFunc: (dy, saved, attrs) => {
      const dys = [dy].flat();
      const gradients = kernel.backward(gradientContext(attrs as unknown as Attributes, dys), dys, saved);
      return Object.fromEntries(Object.entries(gradients).map(([name, gradient]) => [name, () => gradient]));
    },
  });
}

function runForward<Attributes extends object>(
  kernel: FusedKernel<Attributes>,
  inputs: Record<string, tf.TensorInfo>,
  native: NativeBackend,
  attributes: unknown,
): tf.TensorInfo | tf.TensorInfo[] {
  const recording = isKernelRecorded();
  const outputs = computeForward(kernel, inputs, native, attributes, recording);
  if (recording && kernel.rebuildable) {
    const infos = [outputs].flat();
    const rebuild = () => {
      const again = [computeForward(kernel, inputs, native, attributes, false)].flat();
      for (const [i, info] of infos.entries()) native.restore(info, again[i]!);
    };
    for (const info of infos) native.makeRebuildable(info, rebuild);
  }
  return outputs;
}

function computeForward<Attributes extends object>(
  kernel: FusedKernel<Attributes>,
  inputs: Record<string, tf.TensorInfo>,
  native: NativeBackend,
  attributes: unknown,
  recording: boolean,
): tf.TensorInfo | tf.TensorInfo[] {
  const made: tf.TensorInfo[] = [];
  const noted = (allocation: Allocation) => {
    made.push(allocation.info);
    return allocation;
  };
  try {
    return kernel.forward({
      attributes: attributes as Attributes,
      floats: (name) => native.valuesOf(inputs[name]!) as Float32Array,
      shape: (name) => inputs[name]!.shape,
      output: (shape) => noted(native.allocate(shape)),
      outputOver: (name) => noted(native.allocateOver(inputs[name]!)),
      recording,
    });
  } catch (error) {
    for (const { dataId } of made) native.disposeData(dataId);
    throw error;
  }
}

function gradientContext<Attributes>(
  attributes: Attributes,
  dys: readonly tf.Tensor[],
): GradientContext<Attributes> {
  const native = nativeBackend();
  const toTensor = ({ info, values }: Allocation) => {
    return { tensor: tf.engine().makeTensorFromTensorInfo(info), values };
  };
  return {
    attributes,
    valuesOf: (tensor) => native.valuesOf(tensor) as Float32Array,
    tensor: (shape) => toTensor(native.allocate(shape)),
    over: (tensor) => {
      // TensorFlow.js's own gradient functions may hand over a tensor of the user's.
      const isForeign = dys.includes(tensor) && !ownsGradients();
      return toTensor(isForeign ? native.allocate(tensor.shape) : native.allocateOver(tensor));
    },
    share: (tensor) => tf.engine().makeTensorFromTensorInfo(native.share(tensor, tensor.shape)),
  };
}

/**
 * Gives the memory of tensors back until the backward pass reads them, when the operation that made them computes them
 * once more; where nothing is recorded, or the operation cannot, nothing happens. Call it where the forward pass needs them
 * no more. (Whoever reads one all the same gets the same values, later.)
 */
export function forgetUntilGradient(...tensors: readonly (tf.Tensor | undefined)[]): void {
  if (!isRecording() || tf.getBackend() !== NATIVE_BACKEND) return;
  for (const tensor of tensors) if (tensor) nativeBackend().forget(tensor);
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
  return run(kernelName, inputs, attributes) as T;
}

/** Runs a fused kernel that gives several tensors. */
export function runFusedMany(kernelName: string, inputs: tf.NamedTensorMap, attributes: object): tf.Tensor[] {
  return run(kernelName, inputs, attributes) as tf.Tensor[];
}

/** An operation with parameters is on the tape even where none of its tensors is. */
function run(kernelName: string, inputs: tf.NamedTensorMap, attributes: object): tf.Tensor | tf.Tensor[] {
  const anchor = currentAnchor();
  const isAnchored = anchor && Object.values(attributes).some((value) => value instanceof Parameter);
  const operands = isAnchored ? { ...inputs, anchor } : inputs;
  return tf.engine().runKernel(kernelName, operands, attributes as tf.NamedAttrMap) as
    | tf.Tensor
    | tf.Tensor[];
}
