/** Arithmetic on flat memory: parameters, gradients, moments. */

import { BLOCK_ELEMENTS } from '@sluice/core';
import { type AdamWSettings, adamWCoefficients } from '../../adamW.ts';
import { bytesOf, type DeviceArray } from '../device.ts';
import * as flat from '../flatArithmetic.ts';
import {
  BF16_ROUNDING,
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
  roundedTo,
} from './case.ts';

const SETTINGS: AdamWSettings = {
  ...{ learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, step: 10 },
  gradientScale: 0.5,
};

/** With weights in bf16 beside. */
export function adamWCase(on: DeviceMemory, length: number): KernelCase {
  const [parameters, gradients, firstMoment] = [1, 2, 3].map((seed) =>
    randomArray(on, seed, length, 'f32'),
  ) as [DeviceArray<'f32'>, DeviceArray<'f32'>, DeviceArray<'f32'>];
  const secondMoment = on.allocate(length, 'f32');
  flat.fill(secondMoment, 0.25);
  const weights = on.allocate(length, 'bf16');
  const sums = on.allocate(2 * Math.ceil(length / BLOCK_ELEMENTS), 'f64');
  const arrays = { parameters, gradients, firstMoment, secondMoment };
  return {
    run: () => flat.adamW({ ...arrays, weights }, SETTINGS, sums),
    outputs: () => outputsOf({ parameters, firstMoment, secondMoment, weights, sums }),
    bytes: (7 * 4 + 2) * length,
    judge: () => {
      const [scale, moment1, moment2, decay, stepSize, rootCorrection, epsilon] = adamWCoefficients(SETTINGS);
      const [values, slopes, firsts, seconds] = Object.values(arrays).map(floatsOf) as Float32Array[];
      const expected = { parameters: [] as number[], first: [] as number[], second: [] as number[] };
      const squares = new Float64Array(sums.length);
      for (const [i, value] of values!.entries()) {
        const slope = slopes![i]! * scale;
        const first = firsts![i]! + (slope - firsts![i]!) * moment1;
        const second = seconds![i]! + (slope * slope - seconds![i]!) * moment2;
        expected.first.push(first);
        expected.second.push(second);
        const update = (stepSize * first) / (Math.sqrt(second) * rootCorrection + epsilon);
        expected.parameters.push(value * (1 - decay) - update);
        const place = 2 * Math.floor(i / BLOCK_ELEMENTS);
        squares[place]! += (update + decay * value) ** 2;
        squares[place + 1]! += value ** 2;
      }
      const near = () => 4e-7;
      const rounded = roundedTo('bf16', 1e-6);
      return judged({
        parameters: { array: parameters, expected: expected.parameters, bound: near },
        firstMoment: { array: firstMoment, expected: expected.first, bound: near },
        secondMoment: { array: secondMoment, expected: expected.second, bound: near },
        weights: {
          array: weights,
          expected: expected.parameters,
          bound: (i) => rounded(expected.parameters[i]!) + 4e-7,
        },
        sums: { array: sums, expected: squares, bound: (i) => 1e-5 * squares[i]! },
      });
    },
  };
}

/** The sum of several buffers, as a tree. */
export function sumTreeCase(on: DeviceMemory, sources: number, length: number): KernelCase {
  const arrays = Array.from({ length: sources }, (_, i) => randomArray(on, i + 1, length, 'f32'));
  const target = on.allocate(length, 'f32');
  return {
    run: () => flat.sumTree(target, arrays),
    outputs: () => outputsOf({ target }),
    bytes: 4 * (sources + 1) * length,
    judge: () => {
      const [expected, sizes] = [new Float64Array(length), new Float64Array(length)];
      for (const values of arrays.map(floatsOf)) {
        for (const [i, value] of values.entries()) {
          expected[i]! += value;
          sizes[i]! += Math.abs(value);
        }
      }
      const levels = Math.ceil(Math.log2(sources)) || 1;
      return judged({ target: { array: target, expected, bound: (i) => levels * 2 ** -24 * sizes[i]! } });
    },
  };
}

type Floats = DeviceArray<'f32'>;

const single = roundedTo('f32');

/** What small operations make of y, which is changed, and x; and how far off that may be. */
const PAIRS = {
  scale: {
    run: (_: Floats, y: Floats) => flat.scale(y, 0.7),
    exact: (_: number, y: number) => Math.fround(0.7) * y,
    bound: (_: number, y: number) => single(0.7 * y),
    bytes: 8,
  },
  addScaled: {
    run: (x: Floats, y: Floats) => flat.addScaled(y, x, 0.7),
    exact: (x: number, y: number) => Math.fround(0.7) * x + y,
    bound: (x: number, y: number) => single(0.7 * x + y),
    bytes: 12,
  },
  addRounded: {
    run: (x: Floats, y: Floats) => flat.addRounded(y, x),
    exact: (x: number, y: number) => x + y,
    bound: (x: number, y: number) => BF16_ROUNDING * (Math.abs(x) + Math.abs(y)),
    bytes: 12,
  },
} as const;

/** y ← 0.7·y, y + 0.7·x, or y + x with both rounded to bf16 before. */
export function pairCase(on: DeviceMemory, name: keyof typeof PAIRS, length: number): KernelCase {
  const [x, y] = [randomArray(on, 1, length, 'f32'), randomArray(on, 2, length, 'f32')];
  const { run, exact, bound, bytes } = PAIRS[name];
  return {
    run: () => run(x, y),
    outputs: () => outputsOf({ y }),
    bytes: bytes * length,
    judge: () => {
      const [xs, ys] = [floatsOf(x), floatsOf(y)];
      const expected = Float64Array.from(ys, (value, i) => exact(xs[i]!, value));
      return judged({ y: { array: y, expected, bound: (i) => bound(xs[i]!, ys[i]!) } });
    },
  };
}

/** Between single precision and bf16. */
export function conversionCase(on: DeviceMemory, to: 'bf16' | 'f32', length: number): KernelCase {
  const from = to === 'bf16' ? 'f32' : 'bf16';
  const [x, y] = [randomArray(on, 1, length, from), on.allocate(length, to)];
  return {
    run() {
      if (to === 'bf16') flat.narrow(y as DeviceArray<'bf16'>, x as Floats);
      else flat.widen(y as Floats, x as DeviceArray<'bf16'>);
    },
    outputs: () => outputsOf({ y }),
    bytes: (bytesOf(from) + bytesOf(to)) * length,
    judge: () => {
      const expected = floatsOf(x);
      const bound = (i: number) => (to === 'bf16' ? BF16_ROUNDING * Math.abs(expected[i]!) : 1e-30);
      return judged({ y: { array: y, expected, bound } });
    },
  };
}
