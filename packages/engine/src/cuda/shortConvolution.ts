/** Short causal convolutions on a device (`kernels/shortConvolution.cu`). N rows, C channels, K taps. */

import { invariant } from '@sluice/core';
import { type Activations, type DeviceArray, kernelFor } from './device.ts';
import { sumRows } from './flatArithmetic.ts';

type Floats = DeviceArray<'f32'>;

/** Of the kernels: threads of a block, and tokens of a part of the weights' gradient. */
const [THREADS, ROWS_OF_PART] = [256, 64];

export interface ConvolutionOperands {
  /** [N, C] */
  readonly x: Activations;
  /** [C, K] */
  readonly weights: Floats;
  /** [N], of each token in its document */
  readonly position: DeviceArray<'i32'>;
  readonly taps: number;
  readonly isSilu: boolean;
}

function channelsOf({ x, weights, position, taps }: ConvolutionOperands): number {
  const channels = weights.length / taps;
  invariant(x.length === position.length * channels, `${x.length} values for rows of ${channels} channels`);
  return channels;
}

/** y[t] = Σ_{i<K} w[:, K−1−i] ⊙ x[t−i], or silu of that, each document by itself. */
export function shortConvolution(operands: ConvolutionOperands, y: Activations): void {
  const { x, weights, position, taps, isSilu } = operands;
  const channels = channelsOf(operands);
  if (x.length === 0) return;
  const kernel = kernelFor('shortConvolution', 'shortConvolution', x);
  const sizes = [x.length, channels, taps, Number(isSilu)];
  kernel.launch([Math.ceil(x.length / THREADS)], 0, x, weights, position, y, ...sizes);
}

export interface ConvolutionGradients {
  /** [N, C]; may be dy. */
  readonly dx: Activations;
  /** [C, K] */
  readonly dWeights: Floats;
  /** Whether to add to `dWeights`. */
  readonly accumulate: boolean;
}

/** The gradients of `shortConvolution` from dy [N, C]. */
export function shortConvolutionBackward(
  operands: ConvolutionOperands & { readonly dy: Activations },
  { dx, dWeights, accumulate }: ConvolutionGradients,
): void {
  const { x, weights, position, taps, isSilu, dy } = operands;
  const channels = channelsOf(operands);
  const { device, length } = x;
  const [rows, parts] = [position.length, Math.ceil(position.length / ROWS_OF_PART)];
  const dz = device.allocate(length, 'f32');
  const sums = device.allocate(parts * weights.length, 'f32');
  const kernel = (name: string) => kernelFor('shortConvolution', name, x);
  if (rows > 0) {
    const grid = [Math.ceil(length / THREADS)] as const;
    const sizes = [length, channels, taps] as const;
    const given = [x, weights, position, dy, dz, ...sizes, Number(isSilu)];
    kernel('shortConvolutionSlope').launch(grid, 0, ...given);
    kernel('shortConvolutionBackward').launch(grid, 0, weights, position, dz, dx, ...sizes);
    const columns = Math.ceil(weights.length / THREADS);
    const args = [x, position, dz, sums, rows, channels, taps];
    kernel('shortConvolutionWeights').launch([columns, parts], 0, ...args);
  }
  sumRows(dWeights, sums, accumulate);
  for (const array of [dz, sums]) device.free(array);
}
