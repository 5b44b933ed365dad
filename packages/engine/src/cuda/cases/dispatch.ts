/** Tokens to the rows of their experts, and back, and where these rows are. N: tokens; K: experts a token; M = N·K rows. */

import { planOnHost } from '../../ops/dispatchTokens.ts';
import { bytesOf } from '../device.ts';
import { combineTokens, combineTokensBackward, dispatchTokens } from '../experts.ts';
import { planRows } from '../routing.ts';
import {
  type ActivationStorage,
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
  roundingOf,
} from './case.ts';
import { slotsOf } from './products.ts';

export interface DispatchSizes {
  readonly tokens: number;
  readonly experts: number;
  readonly topK: number;
  readonly width: number;
  readonly storage?: ActivationStorage;
}

export function dispatchCase(on: DeviceMemory, sizes: DispatchSizes): KernelCase {
  const { tokens, topK, width, storage = 'bf16' } = sizes;
  const [slots] = planOnHost(slotsOf(sizes), sizes.experts);
  const order = on.upload(slots, 'i32');
  const x = randomArray(on, 1, tokens * width, storage);
  const y = on.allocate(tokens * topK * width, storage);
  return {
    run: () => dispatchTokens(x, order, y, topK),
    outputs: () => outputsOf({ y }),
    bytes: bytesOf(storage) * (tokens + tokens * topK) * width,
    judge: () => {
      const xs = floatsOf(x);
      const expected = Float32Array.from({ length: y.length }, (_, i) => {
        const token = Math.floor(slots[Math.floor(i / width)]! / topK);
        return xs[token * width + (i % width)]!;
      });
      return judged({ y: { array: y, expected, bound: () => 1e-30 } });
    },
  };
}

/** Σ_k weight · y of each token, or the gradients of both factors. */
export function combineCase(on: DeviceMemory, sizes: DispatchSizes, isBackward: boolean): KernelCase {
  const { tokens, topK, width, storage = 'bf16' } = sizes;
  const [slots, places] = planOnHost(slotsOf(sizes), sizes.experts);
  const [order, position] = [on.upload(slots, 'i32'), on.upload(places, 'i32')];
  const rows = tokens * topK;
  const [y, dy] = [randomArray(on, 1, rows * width, storage), on.allocate(rows * width, storage)];
  const [weights, dWeights] = [randomArray(on, 2, rows, 'f32'), on.allocate(rows, 'f32')];
  const [out, dOut] = [on.allocate(tokens * width, storage), randomArray(on, 3, tokens * width, storage)];
  return {
    run() {
      if (isBackward) combineTokensBackward({ y, weights, order, dOut }, { dy, dWeights }, topK);
      else combineTokens(y, weights, position, out, topK);
    },
    outputs: () => outputsOf(isBackward ? { dy, dWeights } : { out }),
    bytes: bytesOf(storage) * width * (isBackward ? 2 * rows + tokens : rows + tokens),
    judge: () => {
      const [ys, factors, slopes] = [floatsOf(y), floatsOf(weights), floatsOf(dOut)];
      const [sums, sizes] = [new Float64Array(out.length), new Float64Array(out.length)];
      const back = new Float64Array(dy.length);
      const [dFactors, dSizes] = [new Float64Array(rows), new Float64Array(rows)];
      for (const [i, value] of ys.entries()) {
        const slot = slots[Math.floor(i / width)]!;
        const at = Math.floor(slot / topK) * width + (i % width);
        sums[at]! += factors[slot]! * value;
        sizes[at]! += Math.abs(factors[slot]! * value);
        back[i] = factors[slot]! * slopes[at]!;
        dFactors[slot]! += value * slopes[at]!;
        dSizes[slot]! += Math.abs(value * slopes[at]!);
      }
      const near = (values: Float64Array, size: Float64Array, terms: number) => (i: number) =>
        1.01 * roundingOf(storage) * Math.abs(values[i]!) + terms * 2 ** -24 * Math.abs(size[i]!) + 1e-30;
      return isBackward
        ? judged({
            dy: { array: dy, expected: back, bound: near(back, back, 1) },
            dWeights: { array: dWeights, expected: dFactors, bound: near(dFactors, dSizes, width / 32 + 16) },
          })
        : judged({ out: { array: out, expected: sums, bound: near(sums, sizes, topK) } });
    },
  };
}

/** Where each slot's row lies, by expert and then slot, and how many each expert has. */
export function planCase(on: DeviceMemory, sizes: Omit<DispatchSizes, 'width' | 'storage'>): KernelCase {
  const { tokens, topK, experts } = sizes;
  const slots = slotsOf(sizes);
  const indices = on.upload(slots, 'i32');
  const rows = () => on.allocate(tokens * topK, 'i32');
  const plan = { order: rows(), position: rows(), counts: on.allocate(experts, 'i32') };
  return {
    run: () => planRows(indices, plan),
    outputs: () => outputsOf(plan),
    bytes: 4 * 4 * slots.length,
    judge: () => {
      const expected = planOnHost(slots, experts);
      const results = Object.entries(plan).map(([name, array], i) => [
        name,
        { array, expected: expected[i]!, bound: () => 1e-30 },
      ]);
      return judged(Object.fromEntries(results));
    },
  };
}
