/** RMS norm, and norms of gradients. N: tokens; C: channels. */

import { BLOCK_ELEMENTS } from '@sluice/core';
import { bytesOf } from '../device.ts';
import { squaredNorms } from '../flatArithmetic.ts';
import { rmsNorm, rmsNormBackward } from '../operations.ts';
import {
  BF16_ROUNDING,
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
} from './case.ts';

const EPSILON = 1e-6;

export interface NormSizes {
  readonly rows: number;
  readonly width: number;
  readonly storage: 'bf16' | 'f32';
  readonly seed?: number;
}

/** The RMS norm and, where `passes` says so, its gradients, which are added to random numbers. */
export function rmsNormCase(
  on: DeviceMemory,
  { rows, width, storage, seed = 1 }: NormSizes,
  passes: 'forward' | 'backward' | 'both' = 'both',
): KernelCase {
  const activations = (offset: number) => randomArray(on, seed + offset, rows * width, storage);
  const [x, dy, y, dx] = [activations(0), activations(1), activations(4), activations(5)];
  const [gain, dGain] = [randomArray(on, seed + 2, width, 'f32'), randomArray(on, seed + 3, width, 'f32')];
  const inverse = randomArray(on, seed + 6, rows, 'f32');
  const forward = () => rmsNorm(x, gain, y, inverse, EPSILON);
  const backward = () => rmsNormBackward({ x, gain, dy, inverse }, { dx, dGain, accumulate: true });
  const ofActivations = bytesOf(storage) * rows * width;
  return {
    run() {
      if (passes !== 'backward') forward();
      if (passes !== 'forward') backward();
    },
    outputs: () => outputsOf({ y, inverse, dx, dGain }),
    bytes: ofActivations * { forward: 2, backward: 3, both: 5 }[passes],
    judge: () => {
      const [xs, dys, gains] = [floatsOf(x), floatsOf(dy), floatsOf(gain)];
      const expected = { y: new Float64Array(rows * width), dx: new Float64Array(rows * width) };
      const [dGains, gainSizes] = [
        Float64Array.from(floatsOf(dGain)),
        Float64Array.from(floatsOf(dGain), Math.abs),
      ];
      const sizes = new Float64Array(rows * width);
      const inverses = new Float64Array(rows);
      for (let row = 0; row < rows; row++) {
        const at = (i: number) => row * width + i;
        let [square, dot, dotSize] = [0, 0, 0];
        for (let i = 0; i < width; i++) square += xs[at(i)]! ** 2;
        const r = 1 / Math.sqrt(square / width + EPSILON);
        inverses[row] = r;
        for (let i = 0; i < width; i++) {
          const term = dys[at(i)]! * gains[i]! * xs[at(i)]!;
          dot += term;
          dotSize += Math.abs(term);
        }
        for (let i = 0; i < width; i++) {
          const [value, gradient] = [xs[at(i)]!, dys[at(i)]!];
          expected.y[at(i)] = value * r * gains[i]!;
          expected.dx[at(i)] = r * (gradient * gains[i]! - (value * r * r * dot) / width);
          sizes[at(i)] = r * (Math.abs(gradient * gains[i]!) + (Math.abs(value) * r * r * dotSize) / width);
          dGains[i]! += gradient * value * r;
          gainSizes[i]! += Math.abs(gradient * value * r);
        }
      }
      // A lane's sum, the tree above it, and the steps after it.
      const single = (Math.ceil(width / 32) + 5 + 8) * 2 ** -24;
      const result = storage === 'bf16' ? BF16_ROUNDING * 1.01 : 0;
      const ofGain = (rows + width / 32 + 13) * 2 ** -24;
      return judged({
        y: {
          array: y,
          expected: expected.y,
          bound: (i) => (single + result) * Math.abs(expected.y[i]!) + 1e-30,
        },
        inverse: { array: inverse, expected: inverses, bound: (i) => single * inverses[i]! },
        dx: {
          array: dx,
          expected: expected.dx,
          bound: (i) => single * sizes[i]! + result * Math.abs(expected.dx[i]!) + 1e-30,
        },
        dGain: { array: dGain, expected: dGains, bound: (i) => ofGain * gainSizes[i]! },
      });
    },
  };
}

/** Sums of squares of the blocks of a flat buffer. */
export function squaredNormsCase(on: DeviceMemory, length: number): KernelCase {
  const values = randomArray(on, 1, length, 'f32');
  const norms = on.allocate(Math.ceil(length / BLOCK_ELEMENTS), 'f64');
  return {
    run: () => squaredNorms(norms, values),
    outputs: () => outputsOf({ norms }),
    bytes: 4 * length,
    judge: () => {
      const expected = new Float64Array(norms.length);
      for (const [i, value] of floatsOf(values).entries())
        expected[Math.floor(i / BLOCK_ELEMENTS)]! += value ** 2;
      return judged({ norms: { array: norms, expected, bound: (i) => 1e-13 * expected[i]! } });
    },
  };
}
