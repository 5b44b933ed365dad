/** Tokens to the rows of their experts, and back. N: tokens; K: experts a token; M = N·K rows. */

import { combineTokens, combineTokensBackward, dispatchTokens } from '../experts.ts';
import {
  BF16_ROUNDING,
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
} from './case.ts';
import { dispatchOf } from './products.ts';

export interface DispatchSizes {
  readonly tokens: number;
  readonly experts: number;
  readonly topK: number;
  readonly width: number;
}

export function dispatchCase(on: DeviceMemory, sizes: DispatchSizes): KernelCase {
  const { tokens, topK, width } = sizes;
  const plan = dispatchOf(sizes);
  const x = randomArray(on, 1, tokens * width, 'bf16');
  const y = on.allocate(tokens * topK * width, 'bf16');
  return {
    run: () => dispatchTokens(x, plan, y),
    outputs: () => outputsOf({ y }),
    bytes: 2 * (tokens + tokens * topK) * width,
    judge: () => {
      const xs = floatsOf(x);
      const expected = Float32Array.from({ length: y.length }, (_, i) => {
        const token = Math.floor(plan.order[Math.floor(i / width)]! / topK);
        return xs[token * width + (i % width)]!;
      });
      return judged({ y: { array: y, expected, bound: () => 1e-30 } });
    },
  };
}

/** Σ_k weight · y of each token, or the gradients of both factors. */
export function combineCase(on: DeviceMemory, sizes: DispatchSizes, isBackward: boolean): KernelCase {
  const { tokens, topK, width } = sizes;
  const plan = dispatchOf(sizes);
  const rows = tokens * topK;
  const [y, dy] = [randomArray(on, 1, rows * width, 'bf16'), on.allocate(rows * width, 'bf16')];
  const [weights, dWeights] = [randomArray(on, 2, rows, 'bf16'), on.allocate(rows, 'bf16')];
  const [out, dOut] = [on.allocate(tokens * width, 'bf16'), randomArray(on, 3, tokens * width, 'bf16')];
  return {
    run() {
      if (isBackward) combineTokensBackward({ y, weights, dOut }, plan, { dy, dWeights });
      else combineTokens(y, weights, plan, out);
    },
    outputs: () => outputsOf(isBackward ? { dy, dWeights } : { out }),
    bytes: 2 * width * (isBackward ? 2 * rows + tokens : rows + tokens),
    judge: () => {
      const [ys, factors, slopes] = [floatsOf(y), floatsOf(weights), floatsOf(dOut)];
      const [sums, sizes] = [new Float64Array(out.length), new Float64Array(out.length)];
      const back = new Float64Array(dy.length);
      const [dFactors, dSizes] = [new Float64Array(rows), new Float64Array(rows)];
      for (const [i, value] of ys.entries()) {
        const slot = plan.order[Math.floor(i / width)]!;
        const at = Math.floor(slot / topK) * width + (i % width);
        sums[at]! += factors[slot]! * value;
        sizes[at]! += Math.abs(factors[slot]! * value);
        back[i] = factors[slot]! * slopes[at]!;
        dFactors[slot]! += value * slopes[at]!;
        dSizes[slot]! += Math.abs(value * slopes[at]!);
      }
      const near = (values: Float64Array, size: Float64Array, terms: number) => (i: number) =>
        1.01 * BF16_ROUNDING * Math.abs(values[i]!) + terms * 2 ** -24 * Math.abs(size[i]!) + 1e-30;
      return isBackward
        ? judged({
            dy: { array: dy, expected: back, bound: near(back, back, 1) },
            dWeights: { array: dWeights, expected: dFactors, bound: near(dFactors, dSizes, width / 32 + 16) },
          })
        : judged({ out: { array: out, expected: sums, bound: near(sums, sizes, topK) } });
    },
  };
}
