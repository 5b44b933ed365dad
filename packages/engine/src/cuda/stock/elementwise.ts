/**
 * Operations on each element, with broadcasting. Their kernels are generated: what each one computes is an expression of CUDA C++
 * below, for floats and, where the result differs or floats cannot hold it, for 32-bit integers.
 */

import * as tf from '@tensorflow/tfjs';
import { broadcastSteps, stepsOf } from '../../steps.ts';
import type { CudaBackend, TensorArray, TensorStorage } from '../backend.ts';
import type { DeviceArray } from '../device.ts';
import type { KernelSource } from '../kernelSource.ts';
import {
  gridOf,
  layoutOf,
  resultStorage,
  STORAGE,
  type StockCall,
  type StockKernel,
  type StockKernels,
  withFloats,
} from './kernel.ts';

interface Expressions {
  /** Of floats. */
  readonly float?: string;
  /** Of integers, for results that are integers. */
  readonly int?: string;
  /** Attributes that the expression calls `p` and `q`. */
  readonly parameters?: readonly string[];
  /** The result's type, where it is not that of the (first) operand. */
  readonly dtype?: 'bool' | 'int32' | 'float32';
}

const { SELU_SCALE, SELU_SCALEALPHA } = tf.backend_util;
const float = (value: number) => `${Math.fround(value)}f`;

/** Of x. */
const UNARY: Readonly<Record<string, Expressions>> = {
  Abs: { float: 'x < 0.0f ? -x : x', int: 'x < 0 ? wrapped(0u - static_cast<uint32>(x)) : x' },
  Ceil: { float: 'ceilf(x)' },
  ClipByValue: { float: 'x > q ? q : x < p ? p : x', parameters: ['clipValueMin', 'clipValueMax'] },
  Elu: { float: 'x >= 0.0f ? x : expOf(x) - 1.0f' },
  Exp: { float: 'expOf(x)', dtype: 'float32' },
  Floor: { float: 'floorf(x)' },
  IsFinite: { float: '!isNaN(x) && !isInfinite(x)', dtype: 'bool' },
  IsInf: { float: 'isInfinite(x)', dtype: 'bool' },
  IsNan: { float: 'isNaN(x)', dtype: 'bool' },
  LeakyRelu: { float: 'x < 0.0f ? p * x : x', parameters: ['alpha'], dtype: 'float32' },
  Log: { float: 'logOf(x)' },
  Log1p: { float: 'log1pOf(x)' },
  LogicalNot: { int: 'x == 0', dtype: 'bool' },
  Neg: { float: '-x', int: 'wrapped(0u - static_cast<uint32>(x))' },
  Reciprocal: { float: '__fdiv_rn(1.0f, x)' },
  Relu: { float: 'x <= 0.0f ? 0.0f : x', int: 'x < 0 ? 0 : x' },
  Relu6: { float: 'x <= 0.0f ? 0.0f : x > 6.0f ? 6.0f : x', int: 'x < 0 ? 0 : x > 6 ? 6 : x' },
  Round: { float: 'rintf(x)' },
  Rsqrt: { float: '__fdiv_rn(1.0f, __fsqrt_rn(x))' },
  Selu: { float: `x >= 0.0f ? ${float(SELU_SCALE)} * x : ${float(SELU_SCALEALPHA)} * (expOf(x) - 1.0f)` },
  Sigmoid: { float: 'sigmoid(x)' },
  Sign: { float: 'x < 0.0f ? -1.0f : x > 0.0f ? 1.0f : 0.0f', int: '(x > 0) - (x < 0)' },
  // The limits are those of TensorFlow: ln(2⁻²³) + 2.
  Softplus: { float: 'x > 13.942385f ? x : x < -13.942385f ? expOf(x) : log1pOf(expOf(x))' },
  Sqrt: { float: '__fsqrt_rn(x)' },
  Square: { float: 'x * x', int: 'wrapped(static_cast<uint32>(x) * static_cast<uint32>(x))' },
  Step: { float: 'isNaN(x) ? x : x > 0.0f ? 1.0f : p', parameters: ['alpha'] },
  Tanh: { float: 'hyperbolicTangent(x)' },
};

const wrapping = (operator: string) => `wrapped(static_cast<uint32>(a) ${operator} static_cast<uint32>(b))`;
const comparison = (operator: string): Expressions => ({
  float: `a ${operator} b`,
  int: `a ${operator} b`,
  dtype: 'bool',
});

/** Of a and b. */
const BINARY: Readonly<Record<string, Expressions>> = {
  Add: { float: 'a + b', int: wrapping('+') },
  // The way back of Elu, from dy and y.
  EluGrad: { float: 'b >= 0.0f ? a : a * (b + 1.0f)' },
  Equal: comparison('=='),
  FloorDiv: { float: 'floorf(__fdiv_rn(a, b))', int: 'floorDivOf(a, b)', dtype: 'int32' },
  Greater: comparison('>'),
  GreaterEqual: comparison('>='),
  Less: comparison('<'),
  LessEqual: comparison('<='),
  LogicalAnd: { int: 'a != 0 && b != 0', dtype: 'bool' },
  LogicalOr: { int: 'a != 0 || b != 0', dtype: 'bool' },
  Maximum: { float: 'isNaN(a) || a > b ? a : b', int: 'a > b ? a : b' },
  Minimum: { float: 'isNaN(a) || a < b ? a : b', int: 'a < b ? a : b' },
  Mod: { float: 'modOf(a, b)', int: 'modOf(a, b)' },
  Multiply: { float: 'a * b', int: wrapping('*') },
  NotEqual: comparison('!='),
  Pow: { float: 'powOf(a, b)' },
  Prelu: { float: 'a < 0.0f ? b * a : a', dtype: 'float32' },
  RealDiv: { float: '__fdiv_rn(a, b)' },
  SquaredDifference: {
    float: '(a - b) * (a - b)',
    int: 'wrapped((static_cast<uint32>(a) - static_cast<uint32>(b)) * (static_cast<uint32>(a) - static_cast<uint32>(b)))',
  },
  Sub: { float: 'a - b', int: wrapping('-') },
};

/** An entry for each expression. */
function entries(
  table: Readonly<Record<string, Expressions>>,
  write: (name: string, type: 'float' | 'int', expression: string) => string,
): string {
  return Object.entries(table)
    .flatMap(([name, { float, int }]) => [
      ...(float ? [write(name, 'float', float)] : []),
      ...(int ? [write(`${name}Int`, 'int', int)] : []),
    ])
    .join('\n');
}

function unaryEntry(name: string, type: 'float' | 'int', expression: string): string {
  if (type === 'int') {
    return `KERNEL(unary${name}, THREADS, 6, const int* from, int* y, int length) {
  const uint64 i = globalIndex();
  if (i >= static_cast<uint64>(length)) return;
  const int x = from[i];
  y[i] = static_cast<int>(${expression});
}`;
  }
  return `KERNEL(unary${name}, THREADS, 6, const void* from, void* y, int fromStorage, int storage, int length, float p, float q) {
  const uint64 i = globalIndex();
  if (i >= static_cast<uint64>(length)) return;
  const float x = loadFloat(from, fromStorage, i);
  storeFloat(y, storage, i, static_cast<float>(${expression}));
}`;
}

function binaryEntry(name: string, type: 'float' | 'int', expression: string): string {
  const parameters =
    type === 'int'
      ? 'const int* left, const int* right, int* y, int length, Layout2 layout'
      : 'const void* left, const void* right, void* y, int leftStorage, int rightStorage, int storage, int length, Layout2 layout';
  const load = (array: string, at: string) =>
    type === 'int' ? `${array}[${at}]` : `loadFloat(${array}, ${array}Storage, ${at})`;
  const store =
    type === 'int'
      ? `y[i] = static_cast<int>(${expression});`
      : `storeFloat(y, storage, i, static_cast<float>(${expression}));`;
  return `KERNEL(binary${name}, THREADS, 6, ${parameters}) {
  const uint64 i = globalIndex();
  if (i >= static_cast<uint64>(length)) return;
  long long at[2] = {0, 0};
  locate(layout, static_cast<uint32>(i), at);
  const ${type} a = ${load('left', 'at[0]')}, b = ${load('right', 'at[1]')};
  ${store}
}`;
}

const SELECT = ['Words', 'Halves']
  .map(
    (
      size,
    ) => `KERNEL(select${size}, THREADS, 6, const int* condition, const void* t, const void* e, void* y, int length, Layout1 layout) {
  const uint64 i = globalIndex();
  if (i >= static_cast<uint64>(length)) return;
  long long at[1] = {0};
  locate(layout, static_cast<uint32>(i), at);
  const void* from = condition[at[0]] != 0 ? t : e;
  static_cast<${size === 'Words' ? 'uint32' : 'uint16'}*>(y)[i] = static_cast<const ${size === 'Words' ? 'uint32' : 'uint16'}*>(from)[i];
}`,
  )
  .join('\n');

const CAST = `KERNEL(isNotZero, THREADS, 6, const void* x, int* y, int storage, int length) {
  const uint64 i = globalIndex();
  if (i < static_cast<uint64>(length)) y[i] = loadFloat(x, storage, i) != 0.0f;
}
KERNEL(convert, THREADS, 6, const void* x, void* y, int fromStorage, int storage, int length) {
  const uint64 i = globalIndex();
  if (i < static_cast<uint64>(length)) storeFloat(y, storage, i, loadFloat(x, fromStorage, i));
}`;

const source = (name: string, text: string): KernelSource => ({
  name,
  text: `#include "stock.h"\nconstexpr int THREADS = 256;\n${text}\n`,
});

const UNARY_SOURCE = source('unary', [entries(UNARY, unaryEntry), CAST].join('\n'));
const BINARY_SOURCE = source('binary', [entries(BINARY, binaryEntry), SELECT].join('\n'));

/** What is compiled for the operations of this file. */
export const elementwiseSources: readonly KernelSource[] = [UNARY_SOURCE, BINARY_SOURCE];

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
    const y = backend.allocate([...x.shape], resultStorage(result, from), result);
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
  const layout = layoutOf(shape, broadcastSteps(a.shape, shape), broadcastSteps(b.shape, shape));
  if (!layout) return undefined;
  const [from, to] = [backend.valuesOf(a), backend.valuesOf(b)];
  const y = backend.allocate(shape, resultStorage(result, from, to), result);
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
  const run = (yes: TensorArray, no: TensorArray): tf.TensorInfo => {
    const y = backend.allocate([...t.shape], yes.storage, t.dtype);
    const { length } = y.values;
    const kernel = backend.device.kernelOf(
      BINARY_SOURCE,
      yes.storage === 'bf16' ? 'selectHalves' : 'selectWords',
    );
    if (length > 0)
      kernel.launch(gridOf(length), 0, backend.valuesOf(condition), yes, no, y.values, length, layout);
    return y.info;
  };
  const [yes, no] = [backend.valuesOf(t), backend.valuesOf(e)];
  if (yes.storage === no.storage) return run(yes, no);
  return withFloats(yes, (a) => withFloats(no, (b) => run(a, b)));
}

/** A copy in another storage. */
export function converted<S extends TensorStorage>(
  backend: CudaBackend,
  x: tf.TensorInfo,
  storage: S,
  dtype: tf.DataType,
): tf.TensorInfo {
  const from = backend.valuesOf(x);
  const y = backend.allocate([...x.shape], storage, dtype);
  const { length } = from;
  if (length === 0) return y.info;
  const { device } = backend;
  if (from.storage === storage && dtype !== 'bool') {
    device.driver.copy(y.values.address, from.address, length * 4);
  } else if (dtype === 'bool') {
    const kernel = device.kernelOf(UNARY_SOURCE, 'isNotZero');
    kernel.launch(gridOf(length), 0, from, y.values as DeviceArray, STORAGE[from.storage], length);
  } else {
    const kernel = device.kernelOf(UNARY_SOURCE, 'convert');
    const storages = [STORAGE[from.storage], STORAGE[storage]];
    kernel.launch(gridOf(length), 0, from, y.values as DeviceArray, ...storages, length);
  }
  return y.info;
}

function cast({ inputs, attrs, backend }: StockCall): tf.TensorInfo | undefined {
  const x = inputs.x!;
  const { dtype } = attrs as unknown as { dtype: tf.DataType };
  if (dtype === x.dtype) return backend.share(x, [...x.shape]);
  if (x.dtype === 'string' || x.dtype === 'complex64' || dtype === 'complex64' || dtype === 'string')
    return undefined;
  return converted(backend, x, dtype === 'float32' ? 'f32' : 'i32', dtype);
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
