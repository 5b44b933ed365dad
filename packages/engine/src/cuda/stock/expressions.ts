/**
 * What TensorFlow.js's operations compute of each element, as expressions of CUDA C++, of which kernels are generated: one for floats
 * and, where the result differs or floats cannot hold it, one for 32-bit integers.
 */

import * as tf from '@tensorflow/tfjs';
import type { KernelSource } from '../kernelSource.ts';

export interface Expressions {
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
export const UNARY: Readonly<Record<string, Expressions>> = {
  Abs: { float: 'x <= 0.0f ? 0.0f - x : x', int: 'x < 0 ? wrapped(0u - static_cast<uint32>(x)) : x' },
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
export const BINARY: Readonly<Record<string, Expressions>> = {
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

const source = (name: string, text: string): KernelSource => ({
  name,
  text: `#include "stock.h"\nconstexpr int THREADS = 256;\n${text}\n`,
});

export const UNARY_SOURCE = source('unary', entries(UNARY, unaryEntry));
export const BINARY_SOURCE = source('binary', entries(BINARY, binaryEntry));

/** What is compiled for them. */
export const generatedSources: readonly KernelSource[] = [UNARY_SOURCE, BINARY_SOURCE];
