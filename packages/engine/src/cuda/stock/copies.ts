/** Operations that move elements: slices, transposes, concatenations, pads, tiles, gathers; and tensors of constants. */

import * as tf from '@tensorflow/tfjs';
import { partsAlong, stepsOf } from '../../steps.ts';
import type { CudaBackend, TensorArray } from '../backend.ts';
import type { DeviceArray } from '../device.ts';
import { fill } from '../flatArithmetic.ts';
import {
  gridOf,
  layoutOf,
  oneOf,
  parseAxisParam,
  STORAGE,
  type StockCall,
  type StockKernels,
  sizeFromShape,
  withValues,
} from './kernel.ts';

interface Part {
  /** Of the elements that are copied. */
  readonly shape: readonly number[];
  /** Where they begin, and their steps, in the source and in the target. */
  readonly from: { readonly begin: number; readonly steps: readonly number[] };
  readonly to: { readonly begin: number; readonly steps: readonly number[] };
}

/** @returns false where the arrays have too many axes for it */
function copyPart(source: TensorArray, target: TensorArray, { shape, from, to }: Part): boolean {
  const layout = layoutOf(shape, from.steps, to.steps);
  if (!layout) return false;
  const length = sizeFromShape([...shape]);
  if (length === 0) return true;
  const kernel = source.device.kernel('copyStrided', source.storage === 'bf16' ? 'copyHalves' : 'copyWords');
  kernel.launch(gridOf(length), 0, source, target, from.begin, to.begin, length, layout);
  return true;
}

/** A tensor of `shape` whose elements are those of `x` from `begin` on, with these steps. */
function viewed(
  backend: CudaBackend,
  x: tf.TensorInfo,
  { shape, begin, steps }: { shape: readonly number[]; begin: number; steps: readonly number[] },
  resultShape = shape,
): tf.TensorInfo | undefined {
  const source = backend.valuesOf(x);
  const y = backend.allocateResult([...resultShape], x.dtype, x);
  const to = { begin: 0, steps: stepsOf(shape) };
  if (copyPart(source, y.values, { shape, from: { begin, steps }, to })) return y.info;
  backend.disposeData(y.info.dataId);
  return undefined;
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

function slice(
  backend: CudaBackend,
  x: tf.TensorInfo,
  begin: readonly number[],
  shape: readonly number[],
): tf.TensorInfo | undefined {
  const steps = stepsOf(x.shape);
  return viewed(backend, x, { shape, begin: dot(begin, steps), steps });
}

/** Slices along an axis, of these lengths, one after the other. */
function split(
  backend: CudaBackend,
  x: tf.TensorInfo,
  axis: number,
  lengths: readonly number[],
): tf.TensorInfo[] {
  return partsAlong(x.shape, axis, lengths).map(({ begin, shape }) => slice(backend, x, begin, shape)!);
}

function concat(backend: CudaBackend, tensors: readonly tf.TensorInfo[], axis: number): tf.TensorInfo {
  const shapes = tensors.map(({ shape }) => shape);
  const shape = tf.backend_util.computeOutShape(shapes, axis);
  const y = backend.allocateResult(shape, tensors[0]!.dtype, ...tensors);
  const steps = stepsOf(shape);
  let begin = 0;
  for (const tensor of tensors) {
    placePart(backend, tensor, y.values, { begin: begin * steps[axis]!, steps });
    begin += tensor.shape[axis]!;
  }
  return y.info;
}

/** Copies a whole tensor to a place in `target`. */
function placePart(backend: CudaBackend, x: tf.TensorInfo, target: TensorArray, to: Part['to']): void {
  const { shape } = x;
  const constant = backend.constantOf(x);
  if (constant !== undefined) {
    const from = { begin: 0, steps: shape.map(() => 0) };
    copyPart(oneOf(backend, constant, target.storage), target, { shape, from, to });
    return;
  }
  const from = { begin: 0, steps: stepsOf(shape) };
  withValues(backend, x, target.storage, (source) => copyPart(source, target, { shape, from, to }));
}

/** The same fields of an operation's attributes, by their types. */
const attributes = <T>({ attrs }: StockCall) => attrs as unknown as T;

/** A new axis of one element. */
function expanded(shape: readonly number[], axis: number): number[] {
  const at = axis < 0 ? axis + shape.length + 1 : axis;
  return [...shape.slice(0, at), 1, ...shape.slice(at)];
}

export const copies: StockKernels = {
  Identity: ({ inputs, backend }) => backend.share(inputs.x!, inputs.x!.shape),

  Reshape(call) {
    const x = call.inputs.x!;
    const size = sizeFromShape(x.shape);
    const shape = tf.util.inferFromImplicitShape(attributes<{ shape: number[] }>(call).shape, size);
    tf.util.assert(
      sizeFromShape(shape) === size,
      () =>
        `The new shape (${shape}) has ${sizeFromShape(shape)} elements and the old shape (${x.shape}) has ${size} elements.`,
    );
    return call.backend.share(x, shape);
  },

  ExpandDims(call) {
    const { input } = call.inputs;
    const { dim } = attributes<{ dim: number }>(call);
    const rank = input!.shape.length;
    tf.util.assert(-(rank + 1) <= dim, () => `Axis must be in the interval [${-(rank + 1)}, ${rank}]`);
    return call.backend.share(input!, expanded(input!.shape, dim));
  },

  Slice(call) {
    const x = call.inputs.x as tf.Tensor;
    const { begin, size } = attributes<{ begin: number | number[]; size: number | number[] }>(call);
    const [first, shape] = tf.slice_util.parseSliceParams(x, begin, size) as [number[], number[]];
    tf.slice_util.assertParamsValid(x, first, shape);
    return slice(call.backend, x, first, shape);
  },

  StridedSlice(call) {
    const x = call.inputs.x!;
    const of = attributes<
      Record<'begin' | 'end' | 'strides', number[]> &
        Record<'beginMask' | 'endMask' | 'ellipsisMask' | 'newAxisMask' | 'shrinkAxisMask', number>
    >(call);
    const info = tf.slice_util.sliceInfo(
      x.shape,
      of.begin,
      of.end,
      of.strides,
      of.beginMask,
      of.endMask,
      of.ellipsisMask,
      of.newAxisMask,
      of.shrinkAxisMask,
    );
    if (info.isIdentity) return call.backend.share(x, info.finalShape);
    const steps = stepsOf(x.shape);
    const isSimple = info.sliceDim0 || info.isSimpleSlice;
    const shape = isSimple
      ? tf.slice_util.computeOutShape(info.begin, info.end, info.strides)
      : info.finalShapeSparse;
    const strided = isSimple ? steps : steps.map((step, axis) => step * info.strides[axis]!);
    const view = { shape, begin: dot(info.begin, steps), steps: strided };
    return viewed(call.backend, x, view, info.finalShape);
  },

  Transpose(call) {
    const x = call.inputs.x!;
    const { perm } = attributes<{ perm: number[] }>(call);
    const steps = stepsOf(x.shape);
    const shape = perm.map((axis) => x.shape[axis]!);
    return viewed(call.backend, x, { shape, begin: 0, steps: perm.map((axis) => steps[axis]!) });
  },

  Reverse(call) {
    const x = call.inputs.x!;
    const axes = parseAxisParam(attributes<{ dims: number | number[] }>(call).dims, x.shape);
    const steps = stepsOf(x.shape);
    const begin = axes.reduce((sum, axis) => sum + (x.shape[axis]! - 1) * steps[axis]!, 0);
    const turned = steps.map((step, axis) => (axes.includes(axis) ? -step : step));
    return viewed(call.backend, x, { shape: x.shape, begin: Math.max(begin, 0), steps: turned });
  },

  Tile(call) {
    const x = call.inputs.x!;
    const { reps } = attributes<{ reps: number[] }>(call);
    // Each axis is one of repetitions, and one of elements.
    const steps = stepsOf(x.shape).flatMap((step) => [0, step]);
    const shape = x.shape.flatMap((size, axis) => [reps[axis]!, size]);
    const result = x.shape.map((size, axis) => size * reps[axis]!);
    return viewed(call.backend, x, { shape, begin: 0, steps }, result);
  },

  Concat(call) {
    const all = Object.values(call.inputs);
    const axis = parseAxisParam(attributes<{ axis: number }>(call).axis, all[0]!.shape)[0]!;
    if (all.some(({ shape, dtype }) => shape.length > 6 || dtype !== all[0]!.dtype)) return undefined;
    tf.backend_util.assertParamsConsistent(
      all.map(({ shape }) => shape),
      axis,
    );
    const tensors = all.filter(({ shape }) => sizeFromShape(shape) > 0);
    if (tensors.length === 0) return concat(call.backend, all, axis);
    return tensors.length === 1
      ? call.backend.share(tensors[0]!, tensors[0]!.shape)
      : concat(call.backend, tensors, axis);
  },

  Pack(call) {
    const tensors = Object.values(call.inputs);
    const { axis } = attributes<{ axis: number }>(call);
    for (const { shape, dtype } of tensors) {
      tf.util.assertShapesMatch(
        shape,
        tensors[0]!.shape,
        'All tensors passed to stack must have matching shapes',
      );
      tf.util.assert(
        dtype === tensors[0]!.dtype,
        () => 'All tensors passed to stack must have matching dtypes',
      );
    }
    const shape = expanded(tensors[0]!.shape, axis);
    if (shape.length > 6) return undefined;
    const at = axis < 0 ? axis + shape.length : axis;
    return concat(
      call.backend,
      tensors.map((tensor) => ({ ...tensor, dataId: tensor.dataId, dtype: tensor.dtype, shape })),
      at,
    );
  },

  Unpack(call) {
    const value = call.inputs.value!;
    if (value.shape.length > 6) return undefined;
    const axis = parseAxisParam(attributes<{ axis: number }>(call).axis, value.shape)[0]!;
    const lengths = Array<number>(value.shape[axis]!).fill(1);
    const shape = value.shape.filter((_, i) => i !== axis);
    return split(call.backend, value, axis, lengths).map((info) => ({ ...info, shape }));
  },

  SplitV(call) {
    const x = call.inputs.x!;
    if (x.shape.length > 6) return undefined;
    const { numOrSizeSplits, axis } = attributes<{ numOrSizeSplits: number | number[]; axis: number }>(call);
    const along = parseAxisParam(axis, x.shape)[0]!;
    const lengths = tf.backend_util.prepareSplitSize(x as tf.Tensor, numOrSizeSplits, along);
    return split(call.backend, x, along, lengths);
  },

  PadV2(call) {
    const x = call.inputs.x!;
    const { paddings, constantValue } = attributes<{ paddings: [number, number][]; constantValue: number }>(
      call,
    );
    if (x.shape.length > 6 || x.dtype === 'bool') return undefined;
    const shape = x.shape.map((size, axis) => paddings[axis]![0] + size + paddings[axis]![1]);
    const y = call.backend.allocateResult(shape, x.dtype, x);
    fill(y.values, constantValue);
    const steps = stepsOf(shape);
    const before = paddings.map(([before]) => before);
    placePart(call.backend, x, y.values, { begin: dot(before, steps), steps });
    return y.info;
  },

  GatherV2(call) {
    const { x, indices } = call.inputs as Record<'x' | 'indices', tf.TensorInfo>;
    if (indices.dtype !== 'int32') return undefined;
    const { axis, batchDims } = attributes<{ axis: number; batchDims?: number }>(call);
    const along = parseAxisParam(axis, x.shape)[0]!;
    const sizes = tf.backend_util.segment_util.collectGatherOpShapeInfo(
      x as tf.Tensor,
      indices as tf.Tensor,
      along,
      batchDims ?? 0,
    );
    const source = call.backend.valuesOf(x);
    const which = call.backend.valuesOf(indices);
    // A kernel could not say it. This waits for the device.
    const wrong = (which.read() as Int32Array).find((index) => index < 0 || index >= sizes.dimSize);
    tf.util.assert(
      wrong === undefined,
      () => `GatherV2: the index value ${wrong} is not in [0, ${sizes.dimSize - 1}]`,
    );
    const y = call.backend.allocateResult(sizes.outputShape, x.dtype, x);
    const { length } = y.values;
    const kernel = source.device.kernel(
      'copyStrided',
      source.storage === 'bf16' ? 'gatherHalves' : 'gatherWords',
    );
    const count = sizeFromShape(indices.shape) / sizes.batchSize;
    const numbers = [sizes.outerSize, sizes.dimSize, count, sizes.sliceSize, length];
    if (length > 0) kernel.launch(gridOf(length), 0, source, which, y.values, ...numbers);
    return y.info;
  },

  OneHot(call) {
    const indices = call.inputs.indices!;
    if (indices.dtype !== 'int32') return undefined;
    const { dtype, depth, onValue, offValue } = attributes<{
      dtype: tf.DataType;
      depth: number;
      onValue: number;
      offValue: number;
    }>(call);
    const y = call.backend.allocateResult([...indices.shape, depth], dtype, indices);
    const values: DeviceArray = y.values;
    const { length } = values;
    const kernel = values.device.kernel('copyStrided', 'oneHot');
    const numbers = [STORAGE[y.values.storage], depth, length, onValue, offValue];
    if (length > 0) kernel.launch(gridOf(length), 0, call.backend.valuesOf(indices), values, ...numbers);
    return y.info;
  },

  Fill(call) {
    const { shape, value, dtype } = attributes<{
      shape: number[];
      value: number | string;
      dtype?: tf.DataType;
    }>(call);
    if (typeof value === 'string' || dtype === 'string' || dtype === 'complex64') return undefined;
    return call.backend.constant(Number(value), shape, dtype ?? tf.util.inferDtype(value));
  },

  ZerosLike: ({ inputs, backend }) => backend.constant(0, [...inputs.x!.shape], inputs.x!.dtype),
  OnesLike: ({ inputs, backend }) => backend.constant(1, [...inputs.x!.shape], inputs.x!.dtype),
};
