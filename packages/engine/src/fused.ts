/**
 * How a fused operation is run. Each is declared once, in a file of its own under `ops/`, beside a reference in plain `tf.*`
 * operations, which is the definition and serves every backend; and it is implemented once for each backend that has a kernel: for
 * `native` in the same file, for `cuda` under `cuda/ops/`.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import {
  type ActivationsOf,
  type Allocation,
  type FloatsOf,
  type FusedBackend,
  type FusedMemory,
  fusedMemory,
  type IntegersOf,
  Saved,
} from './fusedMemory.ts';
import { Parameter } from './parameter.ts';
import { currentAnchor, isKernelRecorded, isRecording, ownsGradients } from './tape.ts';

export interface FusedDeclaration {
  readonly name: string;
  /** Input tensors that the gradient needs. The tape keeps them until then. */
  readonly inputsToSave: readonly string[];
  /** Which outputs the gradient needs; none when left out. */
  readonly outputsToSave?: readonly boolean[];
  /**
   * Whether `forward` may run once more from the saved inputs, all of which it must have, so that `forgetUntilGradient`
   * can give the memory of its outputs back. For operations that are cheap beside the memory of their outputs.
   */
  readonly rebuildable?: boolean;
}

export interface FusedOperation<Attributes extends object> extends FusedDeclaration {
  /** By backend. */
  readonly implementations: Map<string, FusedImplementation<Attributes>>;
}

/** Everything a kernel needs: tensors in, attributes, outputs. */
export interface KernelContext<Attributes, B extends FusedBackend = 'native'> {
  readonly attributes: Attributes;
  /** Values of the input tensor `name`. */
  input(name: string): ActivationsOf<B>;
  /** The same in single precision. */
  floats(name: string): FloatsOf<B>;
  /** Values of an input of whole numbers. */
  integers(name: string): IntegersOf<B>;
  shape(name: string): number[];
  /** A new output of arbitrary content. */
  output(shape: number[]): Allocation<ActivationsOf<B>>;
  /** The same in single precision. */
  outputFloats(shape: number[]): Allocation<FloatsOf<B>>;
  /** The same of whole numbers, which have no gradient. */
  outputIntegers(shape: number[]): Allocation<IntegersOf<B>>;
  /**
   * An output of the shape of input `name`, in that input's own memory where nobody else holds it (its values are then
   * the caller's no more), otherwise a new one.
   */
  outputOver(name: string): Allocation<ActivationsOf<B>>;
  /** Whether a backward pass will follow. */
  readonly recording: boolean;
  /** For the gradient, or, where none will follow, until `forward` returns. */
  readonly saved: Saved<B>;
}

/** A tensor to be written. */
interface NewTensor<Values> {
  readonly tensor: tf.Tensor;
  readonly values: Values;
}

export interface GradientContext<Attributes, B extends FusedBackend = 'native'> {
  readonly attributes: Attributes;
  /** Only to be read: other tensors may share the values. */
  valuesOf(tensor: tf.Tensor): ActivationsOf<B>;
  /** The same in single precision. */
  floatsOf(tensor: tf.Tensor): FloatsOf<B>;
  /** Of a tensor of whole numbers. */
  integersOf(tensor: tf.Tensor): IntegersOf<B>;
  /** A new tensor of arbitrary content. */
  tensor(shape: number[]): NewTensor<ActivationsOf<B>>;
  /** The same in single precision. */
  tensorOfFloats(shape: number[]): NewTensor<FloatsOf<B>>;
  /** A tensor like `tensor`, a `dy` or a saved one, to be written: on its memory where nobody else holds it. */
  over(tensor: tf.Tensor): NewTensor<ActivationsOf<B>>;
  /** Another tensor with the same values. */
  share(tensor: tf.Tensor): tf.Tensor;
  /** What `forward` saved; freed when `backward` returns. */
  readonly saved: Saved<B>;
}

export interface FusedImplementation<Attributes, B extends FusedBackend = 'native'> {
  readonly forward: (context: KernelContext<Attributes, B>) => tf.TensorInfo | tf.TensorInfo[];
  /**
   * Gradients with respect to the input tensors.
   * @param dys gradients of the outputs, in order
   * @param saved inputs in the order of `inputsToSave`, then outputs; like `dys` they are freed afterwards
   */
  readonly backward: (
    context: GradientContext<Attributes, B>,
    dys: readonly tf.Tensor[],
    saved: readonly tf.Tensor[],
  ) => Record<string, tf.Tensor>;
}

/** What TensorFlow.js takes for a kernel's attributes, and hands to the gradient of the same call. */
interface FusedCall<Attributes> {
  readonly attributes: Attributes;
  readonly saved: Saved;
}

/** Declares an operation, whose gradient is that of the backend that runs. */
export function fusedOperation<Attributes extends object>(
  declaration: FusedDeclaration,
): FusedOperation<Attributes> {
  const { name, inputsToSave, outputsToSave = [] } = declaration;
  const implementations: FusedOperation<Attributes>['implementations'] = new Map();
  tf.registerGradient({
    kernelName: name,
    inputsToSave: [...inputsToSave],
    outputsToSave: [...outputsToSave],
    gradFunc: (dy, tensors, attrs) => {
      const call = attrs as unknown as FusedCall<Attributes>;
      const { backward } = implementations.get(tf.getBackend())!;
      const dys = [dy].flat();
      const gradients = backward(gradientContext(call, dys), dys, tensors);
      call.saved.free();
      const functions: Record<string, () => tf.Tensor> = {};
      for (const input in gradients) functions[input] = () => gradients[input]!;
      return functions;
    },
  });
  return { ...declaration, implementations };
}

/** Registers the kernel and the gradient that a backend has for an operation. */
export function implementFused<Attributes extends object, B extends FusedBackend>(
  backendName: B,
  operation: FusedOperation<Attributes>,
  implementation: FusedImplementation<Attributes, B>,
): void {
  // From here on nobody looks into arrays, so that they may as well be those of `native`.
  const ofAnyArrays = implementation as unknown as FusedImplementation<Attributes>;
  operation.implementations.set(backendName, ofAnyArrays);
  tf.registerKernel({
    kernelName: operation.name,
    backendName,
    kernelFunc: ({ inputs, attrs }) =>
      runForward(operation, ofAnyArrays, {
        inputs: inputs as Record<string, tf.TensorInfo>,
        memory: fusedMemory()!,
        call: attrs as unknown as FusedCall<Attributes>,
      }),
  });
}

interface Forward<Attributes> {
  readonly inputs: Record<string, tf.TensorInfo>;
  readonly memory: FusedMemory;
  readonly call: FusedCall<Attributes>;
}

function runForward<Attributes extends object>(
  { rebuildable }: FusedDeclaration,
  implementation: FusedImplementation<Attributes>,
  { inputs, memory, call }: Forward<Attributes>,
): tf.TensorInfo | tf.TensorInfo[] {
  const recording = isKernelRecorded();
  const outputs = computeForward(implementation, { inputs, memory, call }, recording);
  if (recording && rebuildable) {
    const infos = [outputs].flat();
    const rebuild = () => {
      const again = { inputs, memory, call: { ...call, saved: new Saved(memory) } };
      const rebuilt = [computeForward(implementation, again, false)].flat();
      for (const [i, info] of infos.entries()) memory.restore(info, rebuilt[i]!);
    };
    for (const info of infos) memory.makeRebuildable(info, rebuild);
  }
  return outputs;
}

function computeForward<Attributes extends object>(
  { forward }: FusedImplementation<Attributes>,
  { inputs, memory, call: { attributes, saved } }: Forward<Attributes>,
  recording: boolean,
): tf.TensorInfo | tf.TensorInfo[] {
  const made: tf.TensorInfo[] = [];
  const noted = <Values>(allocation: Allocation<Values>) => {
    made.push(allocation.info);
    return allocation;
  };
  let isDone = false;
  try {
    const outputs = forward({
      attributes,
      input: (name) => memory.valuesOf(inputs[name]!),
      floats: (name) => memory.floatsOf(inputs[name]!),
      integers: (name) => memory.integersOf(inputs[name]!),
      shape: (name) => inputs[name]!.shape,
      output: (shape) => noted(memory.allocate(shape)),
      outputFloats: (shape) => noted(memory.allocateFloats(shape)),
      outputIntegers: (shape) => noted(memory.allocateIntegers(shape)),
      outputOver: (name) => noted(memory.allocateOver(inputs[name]!)),
      recording,
      saved,
    });
    isDone = true;
    return outputs;
  } finally {
    if (!isDone) for (const { dataId } of made) memory.disposeData(dataId);
    if (!isDone || !recording) saved.free();
  }
}

function gradientContext<Attributes>(
  { attributes, saved }: FusedCall<Attributes>,
  dys: readonly tf.Tensor[],
): GradientContext<Attributes> {
  const memory = fusedMemory()!;
  const toTensor = ({ info, values }: Allocation) => {
    return { tensor: tf.engine().makeTensorFromTensorInfo(info), values };
  };
  return {
    attributes,
    valuesOf: (tensor) => memory.valuesOf(tensor),
    floatsOf: (tensor) => memory.floatsOf(tensor),
    integersOf: (tensor) => memory.integersOf(tensor),
    tensor: (shape) => toTensor(memory.allocate(shape)),
    tensorOfFloats: (shape) => toTensor(memory.allocateFloats(shape)),
    over: (tensor) => {
      // TensorFlow.js's own gradient functions may hand over a tensor of the user's.
      const isForeign = dys.includes(tensor) && !ownsGradients();
      return toTensor(isForeign ? memory.allocate(tensor.shape) : memory.allocateOver(tensor));
    },
    share: (tensor) => tf.engine().makeTensorFromTensorInfo(memory.share(tensor, tensor.shape)),
    saved,
  };
}

/**
 * Gives the memory of tensors back until the backward pass reads them, when the operation that made them computes them
 * once more; where nothing is recorded, or the operation cannot, nothing happens. Call it where the forward pass needs them
 * no more. (Whoever reads one all the same gets the same values, later.)
 */
export function forgetUntilGradient(...tensors: readonly (tf.Tensor | undefined)[]): void {
  if (!isRecording()) return;
  for (const tensor of tensors) if (tensor) fusedMemory()?.forget(tensor);
}

/** Whether the running backend has a kernel for the operation; otherwise the reference is used. */
export function hasFused<Attributes extends object>(operation: FusedOperation<Attributes>): boolean {
  return operation.implementations.has(tf.getBackend());
}

/** Runs an operation that gives one tensor. */
export function runFused<Attributes extends object, T extends tf.Tensor>(
  operation: FusedOperation<Attributes>,
  inputs: tf.NamedTensorMap,
  attributes: Attributes,
): T {
  return run(operation, inputs, attributes) as T;
}

/** Runs an operation that gives several tensors. */
export function runFusedMany<Attributes extends object>(
  operation: FusedOperation<Attributes>,
  inputs: tf.NamedTensorMap,
  attributes: Attributes,
): tf.Tensor[] {
  return run(operation, inputs, attributes) as tf.Tensor[];
}

/** An operation with parameters is on the tape even where none of its tensors is. */
function run<Attributes extends object>(
  { name }: FusedOperation<Attributes>,
  inputs: tf.NamedTensorMap,
  attributes: Attributes,
): tf.Tensor | tf.Tensor[] {
  const anchor = currentAnchor();
  const isAnchored = anchor && Object.values(attributes).some((value) => value instanceof Parameter);
  const operands = isAnchored ? { ...inputs, anchor } : inputs;
  const memory = fusedMemory();
  invariant(memory, `${tf.getBackend()} has no memory for ${name}`);
  const call: FusedCall<Attributes> = { attributes, saved: new Saved(memory) };
  return tf.engine().runKernel(name, operands, call as unknown as tf.NamedAttrMap) as tf.Tensor | tf.Tensor[];
}
