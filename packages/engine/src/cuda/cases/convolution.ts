/** Short causal convolutions. N: tokens; C: channels; K: taps. */

import { bytesOf } from '../device.ts';
import { shortConvolution, shortConvolutionBackward } from '../shortConvolution.ts';
import {
  type ActivationStorage,
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
  roundingOf,
  sigmoid,
} from './case.ts';

export interface ConvolutionSizes {
  readonly tokens: number;
  readonly channels: number;
  readonly taps: number;
  /** Tokens of a document. */
  readonly document: number;
  readonly storage?: ActivationStorage;
}

/** With SiLU; the gradient of the weights is written. */
export function convolutionCase(on: DeviceMemory, sizes: ConvolutionSizes, isBackward: boolean): KernelCase {
  const { tokens, channels, taps, document, storage = 'bf16' } = sizes;
  const activations = (seed: number) => randomArray(on, seed, tokens * channels, storage);
  const [x, y, dy, dx] = [activations(1), activations(2), activations(3), activations(4)];
  const [weights, dWeights] = [
    randomArray(on, 5, channels * taps, 'f32'),
    on.allocate(channels * taps, 'f32'),
  ];
  const position = on.upload(
    Int32Array.from({ length: tokens }, (_, token) => token % document),
    'i32',
  );
  const operands = { x, weights, position, taps, isSilu: true };
  return {
    run() {
      if (isBackward) shortConvolutionBackward({ ...operands, dy }, { dx, dWeights, accumulate: false });
      else shortConvolution(operands, y);
    },
    outputs: () => outputsOf(isBackward ? { dx, dWeights } : { y }),
    bytes: bytesOf(storage) * (isBackward ? 3 : 2) * tokens * channels,
    judge: () => {
      const [xs, factors, slopes] = [floatsOf(x), floatsOf(weights), floatsOf(dy)];
      const [out, back] = [new Float64Array(x.length), new Float64Array(x.length)];
      const backSizes = new Float64Array(x.length);
      const [sums, sizesOfSums] = [new Float64Array(weights.length), new Float64Array(weights.length)];
      for (const i of xs.keys()) {
        const [token, channel] = [Math.floor(i / channels), i % channels];
        const seen = Math.min(taps, (token % document) + 1);
        let z = 0;
        for (let tap = 0; tap < seen; tap++)
          z += factors[channel * taps + taps - 1 - tap]! * xs[i - tap * channels]!;
        const open = sigmoid(z);
        out[i] = z * open;
        const slope = slopes[i]! * open * (1 + z * (1 - open));
        for (let tap = 0; tap < seen; tap++) {
          const [at, of] = [i - tap * channels, channel * taps + taps - 1 - tap];
          back[at]! += slope * factors[of]!;
          backSizes[at]! += Math.abs(slope * factors[of]!);
          sums[of]! += slope * xs[at]!;
          sizesOfSums[of]! += Math.abs(slope * xs[at]!);
        }
      }
      const rounded = (values: Float64Array) => (i: number) =>
        1.01 * roundingOf(storage) * Math.abs(values[i]!) + 4e-6 * (1 + backSizes[i]!);
      return isBackward
        ? judged({
            dx: { array: dx, expected: back, bound: rounded(back) },
            dWeights: {
              array: dWeights,
              expected: sums,
              bound: (i) => (tokens + 16) * 2 ** -24 * sizesOfSums[i]! + 1e-6,
            },
          })
        : judged({ y: { array: y, expected: out, bound: rounded(out) } });
    },
  };
}
