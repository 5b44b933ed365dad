/** TensorFlow.js's own operations, on the running backend `cuda`, beside those of its CPU backend. */

import * as tf from '@tensorflow/tfjs';
import { CUDA_BACKEND, cudaBackend } from '../backend.ts';
import { BINARY, type Expressions, UNARY } from '../stock/expressions.ts';
import {
  BF16_ROUNDING,
  type DeviceMemory,
  type Errors,
  type KernelCase,
  type Outputs,
  randomArray,
  randomValues,
  scattered,
  toBf16,
  worstShare,
} from './case.ts';

interface Operand {
  readonly shape: readonly number[];
  readonly dtype: tf.DataType;
  readonly values: tf.TypedArray;
  /** Whether the values lie on the device in bf16. */
  readonly isRounded?: boolean;
}

export interface StockCheck {
  readonly kernelName: string;
  readonly inputs: Readonly<Record<string, Operand>>;
  readonly attrs?: tf.NamedAttrMap;
}

const sizeOf = (shape: readonly number[]) => tf.util.sizeFromShape([...shape]);

function floats(seed: number, shape: readonly number[], scale = 2): Operand {
  return { shape, dtype: 'float32', values: randomValues(seed, sizeOf(shape), scale) };
}

/** Of values that bf16 has. */
function halves(seed: number, shape: readonly number[]): Operand {
  const rounded = toBf16(randomValues(seed, sizeOf(shape), 2));
  const values = new Float32Array(Uint32Array.from(rounded, (half) => half << 16).buffer);
  return { shape, dtype: 'float32', values, isRounded: true };
}

function integers(shape: readonly number[], limit: number, from = 0): Operand {
  const values = scattered(sizeOf(shape), limit).map((value) => value + from);
  return { shape, dtype: 'int32', values };
}

const truths = (shape: readonly number[]): Operand => ({ ...integers(shape, 2), dtype: 'bool' });

function tensorOf({ shape, dtype, values, isRounded }: Operand): tf.Tensor {
  if (!isRounded || tf.getBackend() !== CUDA_BACKEND)
    return tf.tensor(values, [...shape], dtype as 'float32');
  const { device } = cudaBackend();
  const array = device.upload(toBf16(values as Float32Array), 'bf16');
  return tf.engine().makeTensorFromTensorInfo(cudaBackend().adopt(array, [...shape]));
}

/** What an operation of the running backend gives, by number. */
function resultsOf({ kernelName, inputs, attrs }: StockCheck): Record<string, tf.TypedArray> {
  return tf.tidy(() => {
    const tensors = Object.fromEntries(
      Object.entries(inputs).map(([name, operand]) => [name, tensorOf(operand)]),
    );
    const results = tf.engine().runKernel(kernelName, tensors, attrs ?? {}) as tf.Tensor | tf.Tensor[];
    const all = Array.isArray(results) ? results : [results];
    return Object.fromEntries(all.map((tensor, i) => [`${i}`, tensor.dataSync()]));
  });
}

/** Functions of our own keep to a few units of single precision; sums of a few hundred terms as well. */
const SINGLE = 4e-6;

export function stockCase(check: StockCheck): KernelCase {
  let results: Outputs = {};
  const isRounded = Object.values(check.inputs).some((operand) => operand.isRounded);
  return {
    run() {
      results = resultsOf(check);
    },
    outputs: () => results,
    judge() {
      tf.setBackend('cpu');
      const expected = resultsOf(check);
      tf.setBackend(CUDA_BACKEND);
      const relative = SINGLE + (isRounded ? 1.01 * BF16_ROUNDING : 0);
      return (): Errors =>
        Object.fromEntries(
          Object.entries(expected).map(([name, values]) => [
            name,
            worstShare(
              results[name] as tf.TypedArray,
              values,
              (i) => relative * Math.abs(values[i]!) + SINGLE,
            ),
          ]),
        );
    },
  };
}

/** Operations whose rates tell of their kernels': attributes, and bytes that are read and written for an element of an operand. */
const RATED = {
  Add: { operands: ['a', 'b'], attrs: {}, bytes: 12 },
  Sigmoid: { operands: ['x'], attrs: {}, bytes: 8 },
  Sum: { operands: ['x'], attrs: { axis: [1], keepDims: false }, bytes: 4 },
  Softmax: { operands: ['logits'], attrs: { dim: 1 }, bytes: 8 },
  Transpose: { operands: ['x'], attrs: { perm: [1, 0] }, bytes: 8 },
} as const;

export const RATED_OPERATIONS = Object.keys(RATED) as (keyof typeof RATED)[];

/** An operation on matrices in single precision. */
export function stockRateCase(
  on: DeviceMemory,
  kernelName: keyof typeof RATED,
  [rows, columns]: readonly [number, number],
): KernelCase {
  const { operands, attrs, bytes } = RATED[kernelName];
  const tensors = operands.map((name, i) => {
    const array = randomArray(on, i + 1, rows * columns, 'f32');
    const info = cudaBackend().view(array, [rows, columns]);
    return [name, tf.engine().makeTensorFromTensorInfo(info)] as const;
  });
  const inputs = Object.fromEntries(tensors);
  return {
    run: () =>
      tf.tidy(() => void tf.engine().runKernel(kernelName, inputs, attrs as object as tf.NamedAttrMap)),
    outputs: () => ({}),
    bytes: bytes * rows * columns,
  };
}

/** What attributes of single elements' operations may be. */
const ATTRIBUTES: Readonly<Record<string, number>> = { clipValueMin: -0.5, clipValueMax: 0.7, alpha: 0.2 };

function elementwise(): StockCheck[] {
  const [shape, left, right] = [
    [5, 60],
    [5, 1, 12],
    [7, 12],
  ];
  const unary = Object.entries(UNARY).flatMap(([kernelName, { float, int, parameters = [] }]) => {
    const attrs = Object.fromEntries(parameters.map((name) => [name, ATTRIBUTES[name]!]));
    const isLogical = kernelName === 'LogicalNot';
    return [
      ...(float ? [{ kernelName, inputs: { x: floats(1, shape) }, attrs }] : []),
      ...(int
        ? [{ kernelName, inputs: { x: isLogical ? truths(shape) : integers(shape, 2000, -1000) }, attrs }]
        : []),
    ];
  });
  const names = (kernelName: string) =>
    ({ EluGrad: ['dy', 'y'], Prelu: ['x', 'alpha'] })[kernelName] ?? ['a', 'b'];
  const binary = Object.entries(BINARY).flatMap(([kernelName, { float, int }]: [string, Expressions]) => {
    const [a, b] = names(kernelName) as [string, string];
    const isLogical = kernelName.startsWith('Logical');
    const isDivision = /Div|Mod/.test(kernelName);
    // The only one that does not broadcast.
    const second = kernelName === 'EluGrad' ? left : right;
    const whole = (of: readonly number[], from: number) => (isLogical ? truths(of) : integers(of, 50, from));
    return [
      ...(float ? [{ kernelName, inputs: { [a]: floats(1, left), [b]: floats(2, second) } }] : []),
      ...(int
        ? [{ kernelName, inputs: { [a]: whole(left, -20), [b]: whole(right, isDivision ? 1 : -20) } }]
        : []),
    ];
  });
  const rounded = [
    { kernelName: 'Sigmoid', inputs: { x: halves(1, shape) } },
    { kernelName: 'Add', inputs: { a: halves(1, left), b: halves(2, right) } },
  ];
  return [...unary, ...binary, ...rounded];
}

function reductions(): StockCheck[] {
  const [shape, long] = [
    [9, 130],
    [2, 5000],
  ];
  // `Max` calls its axes by another name.
  const over = (axis: number) => ({ axis: [axis], reductionIndices: [axis], keepDims: false });
  const isOfTruths = (kernelName: string) => kernelName === 'All' || kernelName === 'Any';
  const of = (kernelName: string): StockCheck[] => [
    {
      kernelName,
      inputs: { x: isOfTruths(kernelName) ? truths(shape) : floats(1, shape, 1.5) },
      attrs: over(0),
    },
    ...(isOfTruths(kernelName) ? [] : [{ kernelName, inputs: { x: floats(2, long, 1) }, attrs: over(1) }]),
    ...(['Sum', 'Prod', 'Max', 'Min'].includes(kernelName)
      ? [{ kernelName, inputs: { x: integers(shape, 3, -1) }, attrs: over(0) }]
      : []),
  ];
  const best = (kernelName: string) =>
    [0, 1].map((axis) => ({ kernelName, inputs: { x: floats(3, shape) }, attrs: { axis } }));
  const segmentIds = integers([9], 4);
  return [
    ...['Sum', 'Mean', 'Prod', 'Max', 'Min', 'All', 'Any'].flatMap(of),
    ...[...best('ArgMax'), ...best('ArgMin')],
    { kernelName: 'Softmax', inputs: { logits: floats(4, shape) }, attrs: { dim: 1 } },
    { kernelName: 'Softmax', inputs: { logits: halves(4, shape) }, attrs: { dim: 1 } },
    { kernelName: 'TopK', inputs: { x: floats(5, shape) }, attrs: { k: 4, sorted: true } },
    {
      kernelName: 'UnsortedSegmentSum',
      inputs: { x: floats(6, shape), segmentIds },
      attrs: { numSegments: 5 },
    },
    {
      kernelName: 'UnsortedSegmentSum',
      inputs: { x: integers(shape, 90), segmentIds },
      attrs: { numSegments: 5 },
    },
  ];
}

function moves(): StockCheck[] {
  const shape = [6, 7, 20];
  const indices = integers([8], 6);
  const gather = { axis: 0, batchDims: 0 };
  const condition = truths(shape);
  return [
    { kernelName: 'Transpose', inputs: { x: floats(1, shape) }, attrs: { perm: [2, 0, 1] } },
    { kernelName: 'Transpose', inputs: { x: halves(1, shape) }, attrs: { perm: [1, 2, 0] } },
    { kernelName: 'GatherV2', inputs: { x: floats(2, shape), indices }, attrs: gather },
    { kernelName: 'GatherV2', inputs: { x: halves(2, shape), indices }, attrs: gather },
    {
      kernelName: 'OneHot',
      inputs: { indices },
      attrs: { depth: 6, onValue: 1, offValue: 0, dtype: 'float32' },
    },
    { kernelName: 'Select', inputs: { condition, t: floats(3, shape), e: floats(4, shape) } },
    { kernelName: 'Select', inputs: { condition, t: halves(3, shape), e: halves(4, shape) } },
    { kernelName: 'Cast', inputs: { x: floats(5, shape, 9) }, attrs: { dtype: 'int32' } },
    { kernelName: 'Cast', inputs: { x: integers(shape, 3) }, attrs: { dtype: 'bool' } },
    {
      kernelName: 'BatchMatMul',
      inputs: { a: floats(6, [3, 20, 33], 1), b: floats(7, [1, 33, 18], 1) },
      attrs: { transposeA: false, transposeB: false },
    },
  ];
}

/** Every kernel for TensorFlow.js's operations, by a name that says its operands. */
export function stockChecks(): Readonly<Record<string, StockCheck>> {
  const named = [...elementwise(), ...reductions(), ...moves()].map((check): [string, StockCheck] => {
    const operands = Object.values(check.inputs).map(
      ({ shape, dtype, isRounded }) => `${isRounded ? 'bf16' : dtype} ${shape.join('×')}`,
    );
    const axis = check.attrs?.axis;
    return [`${check.kernelName} ${operands.join(', ')}${axis === undefined ? '' : `, axis ${axis}`}`, check];
  });
  return Object.fromEntries(named);
}
