/** Operations on each element, with broadcasting. What they compute is in `expressions.ts`. */

import * as tf from '@tensorflow/tfjs';
import { broadcastSteps, stepsOf } from '../../steps.ts';
import type { CudaBackend, TensorArray } from '../backend.ts';
import type { DeviceArray } from '../device.ts';
import { BINARY, BINARY_SOURCE, type Expressions, UNARY, UNARY_SOURCE } from './expressions.ts';
import {
  convert,
  gridOf,
  layoutOf,
  oneOf,
  STORAGE,
  type StockCall,
  type StockKernel,
  type StockKernels,
  withValues,
} from './kernel.ts';

function unary(
  kernelName: string,
  { int, parameters = [], dtype, float: ofFloats }: Expressions,
): StockKernel {
  return ({ inputs, attrs, backend }) => {
    const x = inputs.x!;
    const result = dtype ?? x.dtype;
    const isInt = x.dtype !== 'float32' && int !== undefined && result !== 'float32';
    // A truth value is 0 or 1.
    if ((result === 'bool') !== (dtype === 'bool') || (!isInt && ofFloats === undefined)) return undefined;
    const from = backend.valuesOf(x);
    const y = backend.allocateResult([...x.shape], result, x);
    const { length } = from;
    if (length === 0) return y.info;
    const kernel = backend.device.kernelOf(UNARY_SOURCE, `unary${kernelName}${isInt ? 'Int' : ''}`);
    const [p = 0, q = 0] = parameters.map((name) => (attrs as Record<string, number>)[name]!);
    if (isInt) kernel.launch(gridOf(length), 0, from, y.values, length);
    else {
      const storages = [STORAGE[from.storage], STORAGE[y.values.storage]];
      kernel.launch(gridOf(length), 0, from, y.values, ...storages, length, p, q);
    }
    return y.info;
  };
}

/** Names of the operands, where they are not a and b. */
const OPERANDS: Readonly<Record<string, readonly [string, string]>> = {
  EluGrad: ['dy', 'y'],
  Prelu: ['x', 'alpha'],
};

function binary(kernelName: string, expressions: Expressions): StockKernel {
  const [left, right] = OPERANDS[kernelName] ?? ['a', 'b'];
  return ({ inputs, backend }) =>
    applyBinary(backend, kernelName, expressions, inputs[left]!, inputs[right]!);
}

/** What a kernel is told of an operand that is broadcast to `shape`. */
function operandOf(backend: CudaBackend, x: tf.TensorInfo, shape: number[]) {
  const constant = backend.constantOf(x);
  if (constant === undefined) return { array: backend.valuesOf(x), steps: broadcastSteps(x.shape, shape) };
  const storage = x.dtype === 'float32' ? 'f32' : 'i32';
  return { array: oneOf(backend, constant, storage), steps: shape.map(() => 0) };
}

function applyBinary(
  backend: CudaBackend,
  kernelName: string,
  { float: ofFloats, int, dtype }: Expressions,
  a: tf.TensorInfo,
  b: tf.TensorInfo,
): tf.TensorInfo | undefined {
  const result = dtype ?? a.dtype;
  const isInt = a.dtype !== 'float32' && b.dtype !== 'float32' && int !== undefined;
  const areAlike = (a.dtype === 'float32') === (b.dtype === 'float32') || dtype === 'float32';
  if (!areAlike || (result === 'bool') !== (dtype === 'bool')) return undefined;
  if (!isInt && (ofFloats === undefined || (a.dtype !== 'float32' && dtype !== 'float32'))) return undefined;
  const shape = tf.backend_util.assertAndGetBroadcastShape([...a.shape], [...b.shape]);
  const operands = [a, b].map((x) => operandOf(backend, x, shape));
  const layout = layoutOf(shape, ...operands.map(({ steps }) => steps));
  if (!layout) return undefined;
  const [from, to] = operands.map(({ array }) => array) as [TensorArray, TensorArray];
  const y = backend.allocateResult(shape, result, a, b);
  const { length } = y.values;
  if (length === 0) return y.info;
  const kernel = backend.device.kernelOf(BINARY_SOURCE, `binary${kernelName}${isInt ? 'Int' : ''}`);
  const storages = isInt ? [] : [from, to, y.values].map(({ storage }) => STORAGE[storage]);
  kernel.launch(gridOf(length), 0, from, to, y.values, ...storages, length, layout);
  return y.info;
}

/** The sum of any number of tensors of one shape, from the first to the last. */
function addN({ inputs, backend }: StockCall): tf.TensorInfo | undefined {
  const [first, ...others] = Object.values(inputs) as [tf.TensorInfo, ...tf.TensorInfo[]];
  let sum: tf.TensorInfo | undefined = backend.share(first, first.shape);
  for (const other of others) {
    const before = sum!;
    sum = applyBinary(backend, 'Add', BINARY.Add!, before, other);
    backend.disposeData(before.dataId);
    if (!sum) return undefined;
  }
  return sum;
}

/** The condition has the operands' shape, or is one for each of their first axis. */
function select({ inputs, backend }: StockCall): tf.TensorInfo | undefined {
  const { condition, t, e } = inputs as Record<'condition' | 't' | 'e', tf.TensorInfo>;
  if (t.dtype !== e.dtype) return undefined;
  const isOfRows = condition.shape.length === 1 && t.shape.length > 1;
  const steps = isOfRows ? t.shape.map((_, axis) => (axis === 0 ? 1 : 0)) : stepsOf(t.shape);
  if (!isOfRows && !tf.util.arraysEqual(condition.shape, t.shape)) return undefined;
  const layout = layoutOf(t.shape, steps);
  if (!layout) return undefined;
  const y = backend.allocateResult([...t.shape], t.dtype, t, e);
  const { length, storage } = y.values;
  if (length === 0) return y.info;
  const kernel = backend.device.kernel('elementwise', storage === 'bf16' ? 'selectHalves' : 'selectWords');
  const chosen = backend.valuesOf(condition);
  withValues(backend, t, storage, (yes) =>
    withValues(backend, e, storage, (no) =>
      kernel.launch(gridOf(length), 0, chosen, yes, no, y.values, length, layout),
    ),
  );
  return y.info;
}

/** A copy as another type. */
function converted(backend: CudaBackend, x: tf.TensorInfo, dtype: tf.DataType): tf.TensorInfo {
  const from = backend.valuesOf(x);
  const y = backend.allocateResult([...x.shape], dtype, x);
  const { length } = from;
  const { storage } = y.values;
  if (length === 0) return y.info;
  const { device } = backend;
  if (from.storage === storage && dtype !== 'bool') {
    device.driver.copy(y.values.address, from.address, length * 4);
  } else if (dtype === 'bool') {
    const kernel = device.kernel('elementwise', 'isNotZero');
    kernel.launch(gridOf(length), 0, from, y.values as DeviceArray, STORAGE[from.storage], length);
  } else convert(from, y.values);
  return y.info;
}

function cast({ inputs, attrs, backend }: StockCall): tf.TensorInfo | undefined {
  const x = inputs.x!;
  const { dtype } = attrs as unknown as { dtype: tf.DataType };
  if (dtype === x.dtype) return backend.share(x, [...x.shape]);
  if (x.dtype === 'string' || x.dtype === 'complex64' || dtype === 'complex64' || dtype === 'string')
    return undefined;
  return converted(backend, x, dtype);
}

const map = (
  table: Readonly<Record<string, Expressions>>,
  make: (name: string, expressions: Expressions) => StockKernel,
): StockKernels =>
  Object.fromEntries(Object.entries(table).map(([name, expressions]) => [name, make(name, expressions)]));

export const elementwise: StockKernels = {
  ...map(UNARY, unary),
  ...map(BINARY, binary),
  AddN: addN,
  Select: select,
  Cast: cast,
};
