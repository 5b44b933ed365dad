/**
 * Holds fused operations against their definitions. An operation is a function of parameters (its weights and, through
 * `onTape()`, its activations); it is run on two backends, or against plain double-precision code, with random values.
 */

import { computeGradients, type Floats, flatMemory, Parameter, setThreads } from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { relativeError as relativeErrorFrom } from '../../support/relativeError.ts';

export interface OperandValues {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export type Operands = Readonly<Record<string, OperandValues>>;
export type Operation = (operands: Readonly<Record<string, Parameter>>) => tf.Tensor;

export interface Outcome {
  readonly output: Float32Array;
  readonly gradients: Readonly<Record<string, Float32Array>>;
}

/** Deterministic numbers in [-scale, scale). */
export function randomValues(seed: number, length: number, scale = 1): Float32Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return scale * (state / 0x80000000 - 1);
  });
}

export function operand(seed: number, shape: readonly number[], scale = 1): OperandValues {
  return {
    shape,
    values: randomValues(
      seed,
      shape.reduce((a, b) => a * b, 1),
      scale,
    ),
  };
}

interface Collected {
  readonly parameter: Parameter;
  readonly gradient: Float32Array;
  /** How often something was added to the gradient so far. */
  readonly contributions: () => number;
}

/** A parameter with random values whose gradient is collected. */
export function collected(seed: number, shape: number[]): Collected {
  const length = tf.util.sizeFromShape(shape);
  const parameter = new Parameter(`p${seed}`, shape, randomValues(seed, length));
  const gradient = new Float32Array(length);
  let contributions = 0;
  parameter.sink = () => ({ values: gradient, accumulate: contributions++ > 0 });
  return { parameter, gradient, contributions: () => contributions };
}

/** Runs `operation` on `backend`, with the sum of output · dy as the loss, dy random (or 1 for a scalar). */
export function runOperation(
  backend: string,
  operation: Operation,
  operands: Operands,
  sources = 1,
): Outcome {
  tf.setBackend(backend);
  const memory = flatMemory();
  const gradients: Record<string, Floats> = {};
  const parameters: Record<string, Parameter> = {};
  for (const [name, { shape, values }] of Object.entries(operands)) {
    const parameter = new Parameter(name, shape, memory.make(values.length));
    memory.write(parameter.values, values);
    const gradient = memory.make(values.length * sources);
    const written = new Set<number>();
    parameter.sink = (source) => {
      const accumulate = written.has(source);
      written.add(source);
      return { values: gradient.subarray(source * values.length, (source + 1) * values.length), accumulate };
    };
    parameters[name] = parameter;
    gradients[name] = gradient;
  }
  let output = new Float32Array();
  computeGradients(() => {
    const y = operation(parameters);
    output = y.dataSync<'float32'>().slice() as Float32Array<ArrayBuffer>;
    if (y.rank === 0) return y as tf.Scalar;
    return tf.sum(tf.mul(y, tf.tensor(randomValues(99, y.size), y.shape))) as tf.Scalar;
  });
  for (const parameter of Object.values(parameters)) parameter.tensor.dispose();
  const read = Object.entries(gradients).map(([name, gradient]) => [name, memory.read(gradient).slice()]);
  return { output, gradients: Object.fromEntries(read) };
}

/** As the function of that name in `test/support`; values of less than 0.1 count as 0.1. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  return relativeErrorFrom(actual, expected, 0.1);
}

/** The worst relative error over the output and every gradient of two outcomes. */
export function worstError(actual: Outcome, expected: Outcome): number {
  const errors = Object.keys(expected.gradients).map((name) =>
    relativeError(actual.gradients[name]!, expected.gradients[name]!),
  );
  return Math.max(relativeError(actual.output, expected.output), ...errors);
}

export function sameBits(a: Outcome, b: Outcome): boolean {
  const equal = (x: Float32Array, y: Float32Array) =>
    Buffer.from(x.buffer, x.byteOffset, x.byteLength).equals(
      Buffer.from(y.buffer, y.byteOffset, y.byteLength),
    );
  return (
    equal(a.output, b.output) &&
    Object.keys(b.gradients).every((n) => equal(a.gradients[n]!, b.gradients[n]!))
  );
}

/** Whether the outcome has the same bits for each number of threads. */
export function threadsChangeNoBit(
  operation: Operation,
  operands: Operands,
  numbers: readonly number[] = [1, 3],
  sources = 1,
): boolean {
  const outcomes = numbers.map((threads) => {
    setThreads(threads);
    return runOperation('native', operation, operands, sources);
  });
  setThreads(1);
  return outcomes.every((outcome) => sameBits(outcome, outcomes[0]!));
}

/**
 * Gradients by central differences in double precision.
 * @param compute the operation, written plainly over arrays of doubles
 */
export function finiteDifferences(
  compute: (operands: Readonly<Record<string, Float64Array>>) => Float64Array,
  operands: Operands,
  step = 1e-5,
): Outcome {
  const doubles = Object.fromEntries(
    Object.entries(operands).map(([n, o]) => [n, Float64Array.from(o.values)]),
  );
  const output = compute(doubles);
  const dy = output.length === 1 ? Float32Array.of(1) : randomValues(99, output.length);
  const loss = () => compute(doubles).reduce((sum, y, i) => sum + y * dy[i]!, 0);
  const gradients: Record<string, Float32Array> = {};
  for (const [name, values] of Object.entries(doubles)) {
    gradients[name] = Float32Array.from(values, (value, i) => {
      values[i] = value + step;
      const above = loss();
      values[i] = value - step;
      const below = loss();
      values[i] = value;
      return (above - below) / (2 * step);
    });
  }
  return { output: Float32Array.from(output), gradients };
}
