/**
 * TensorFlow.js's own operations on the C++ core, in the simple cases that models written in plain `tf.*` meet: single
 * precision, sums over neighbouring axes. All else falls through to the stock kernels. Matrix products are in `ops/matMul`.
 */

import * as tf from '@tensorflow/tfjs';
import type { NativeBackend } from './backend.ts';
import { callNative } from './native.ts';
import { overrideKernel } from './override.ts';
import { axesOf, broadcastSteps, partsAlong, stepsOf } from './steps.ts';

type Inputs = Record<string, tf.TensorInfo>;

const isFloat = ({ dtype }: tf.TensorInfo) => dtype === 'float32';
const { sizeFromShape, parseAxisParam } = tf.util;

/** A shape with the steps of several arrays along its axes, as the kernels take them. */
function layoutOf(shape: readonly number[], steps: readonly (readonly number[])[]): [Int32Array, number] {
  const axes = axesOf(shape, steps);
  const list = [axes.map(({ size }) => size), ...steps.map((_, i) => axes.map((axis) => axis.steps[i]!))];
  return [Int32Array.from(list.flat()), axes.length];
}

// TensorFlow.js clones whatever it saves for a gradient. A clone shares the values and is no view, whatever their type.
overrideKernel('Identity', ({ inputs, backend }) => {
  const { x } = inputs as { x: tf.TensorInfo };
  return backend.share(x, x.shape);
});

const BINARY = {
  Add: 'broadcastAdd',
  Sub: 'broadcastSubtract',
  Multiply: 'broadcastMultiply',
  RealDiv: 'broadcastDivide',
};

for (const [kernelName, native] of Object.entries(BINARY)) {
  overrideKernel(kernelName, ({ inputs, backend }) => {
    const { a, b } = inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
    if (!isFloat(a) || !isFloat(b)) return undefined;
    const shape = tf.backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
    const out = backend.allocate(shape);
    const steps = [broadcastSteps(a.shape, shape), broadcastSteps(b.shape, shape), stepsOf(shape)];
    const operands = [backend.valuesOf(a), backend.valuesOf(b), out.values];
    callNative(native, ...operands, ...layoutOf(shape, steps));
    return out.info;
  });
}

const UNARY = {
  Sigmoid: 'sigmoid',
  Tanh: 'hyperbolicTangent',
  Relu: 'relu',
  Neg: 'negate',
  Square: 'square',
  Sqrt: 'squareRoot',
  Rsqrt: 'inverseSquareRoot',
};

for (const [kernelName, native] of Object.entries(UNARY)) {
  overrideKernel(kernelName, ({ inputs, backend }) => {
    const { x } = inputs as { x: tf.TensorInfo };
    if (!isFloat(x)) return undefined;
    const out = backend.allocate(x.shape);
    callNative(native, backend.valuesOf(x), out.values, out.values.length);
    return out.info;
  });
}

for (const kernelName of ['Sum', 'Mean']) {
  overrideKernel(kernelName, ({ inputs, attrs, backend }) => {
    const { x } = inputs as { x: tf.TensorInfo };
    const { axis, keepDims } = attrs as unknown as { axis: number | number[]; keepDims: boolean };
    const axes = parseAxisParam(axis, x.shape).sort((a, b) => a - b);
    const areNeighbours = axes.every((value, i) => value === axes[0]! + i);
    if (!isFloat(x) || !areNeighbours || x.shape.length === 0 || axes.length === 0) return undefined;
    const [first, beyond] = [axes[0]!, axes.at(-1)! + 1];
    const sizes = [x.shape.slice(0, first), x.shape.slice(first, beyond), x.shape.slice(beyond)];
    const kept = keepDims ? axes.map(() => 1) : [];
    const out = backend.allocate([...sizes[0]!, ...kept, ...sizes[2]!]);
    const [outer, length, inner] = sizes.map((shape) => sizeFromShape(shape)) as [number, number, number];
    const scale = kernelName === 'Mean' ? 1 / length : 1;
    callNative('sumAxis', backend.valuesOf(x), out.values, outer, length, inner, scale);
    return out.info;
  });
}

overrideKernel('Softmax', ({ inputs, backend }) => {
  const { logits } = inputs as { logits: tf.TensorInfo };
  if (!isFloat(logits) || logits.shape.length === 0) return undefined;
  const width = logits.shape.at(-1)!;
  const out = backend.allocate(logits.shape);
  const rows = width === 0 ? 0 : out.values.length / width;
  callNative('softmax', backend.valuesOf(logits), out.values, rows, width);
  return out.info;
});

overrideKernel('Transpose', ({ inputs, attrs, backend }) => {
  const { x } = inputs as { x: tf.TensorInfo };
  const { perm } = attrs as unknown as { perm: number[] };
  if (!isFloat(x) || x.shape.length === 0) return undefined;
  const shape = perm.map((axis) => x.shape[axis]!);
  const steps = stepsOf(x.shape);
  const out = backend.allocate(shape);
  const layout = layoutOf(shape, [perm.map((axis) => steps[axis]!), stepsOf(shape)]);
  callNative('copyStrided', backend.valuesOf(x), 0, out.values, 0, ...layout);
  return out.info;
});

/** A block of a float tensor, in memory of its own. */
function slice(backend: NativeBackend, x: tf.TensorInfo, begin: number[], size: number[]): tf.TensorInfo {
  const steps = stepsOf(x.shape);
  const start = begin.reduce((sum, index, axis) => sum + index * steps[axis]!, 0);
  const out = backend.allocate(size);
  const layout = layoutOf(size, [steps, stepsOf(size)]);
  if (out.values.length > 0) {
    callNative('copyStrided', backend.valuesOf(x), start, out.values, 0, ...layout);
  }
  return out.info;
}

overrideKernel('Slice', ({ inputs, attrs, backend }) => {
  const { x } = inputs as { x: tf.TensorInfo };
  if (!isFloat(x) || x.shape.length === 0) return undefined;
  const { begin, size } = attrs as unknown as { begin: number | number[]; size: number | number[] };
  const [first, sizes] = tf.slice_util.parseSliceParams(x as tf.Tensor, begin, size);
  tf.slice_util.assertParamsValid(x as tf.Tensor, first!, sizes!);
  return slice(backend, x, first!, sizes!);
});

overrideKernel('SplitV', ({ inputs, attrs, backend }) => {
  const { x } = inputs as { x: tf.TensorInfo };
  if (!isFloat(x)) return undefined;
  const { numOrSizeSplits, axis } = attrs as unknown as {
    numOrSizeSplits: number | number[];
    axis: number;
  };
  const along = parseAxisParam(axis, x.shape)[0]!;
  const sizes = tf.backend_util.prepareSplitSize(x as tf.Tensor, numOrSizeSplits, along);
  return partsAlong(x.shape, along, sizes).map(({ begin, shape }) => slice(backend, x, begin, shape));
});

overrideKernel('Concat', ({ inputs, attrs, backend }) => {
  const tensors = Object.values(inputs as Inputs);
  if (!tensors.every(isFloat)) return undefined;
  const axis = parseAxisParam((attrs as unknown as { axis: number }).axis, tensors[0]!.shape)[0]!;
  const shapes = tensors.map((tensor) => tensor.shape);
  tf.backend_util.assertParamsConsistent(shapes, axis);
  const out = backend.allocate(tf.backend_util.computeOutShape(shapes, axis));
  const steps = stepsOf(out.info.shape);
  let begin = 0;
  for (const tensor of tensors) {
    const layout = layoutOf(tensor.shape, [stepsOf(tensor.shape), steps]);
    const values = backend.valuesOf(tensor);
    if (values.length > 0) callNative('copyStrided', values, 0, out.values, begin * steps[axis]!, ...layout);
    begin += tensor.shape[axis]!;
  }
  return out.info;
});
