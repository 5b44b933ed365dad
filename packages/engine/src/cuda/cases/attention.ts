/** Attention beside double precision. Shapes as in `gatedAttention`. */

import type { AttentionLayout } from '../../ops/attentionLayout.ts';
import { type AttentionOptions, gatedAttention, gatedAttentionBackward } from '../attention.ts';
import { cachedAttention } from '../cachedAttention.ts';
import type { Activations, DeviceArray } from '../device.ts';
import {
  type ActivationStorage,
  type DeviceMemory,
  type Errors,
  floatsOf,
  type KernelCase,
  outputsOf,
  randomArray,
  roundingOf,
  sigmoid,
  worstShare,
} from './case.ts';

export const LAYOUT: AttentionLayout = {
  ...{ batch: 1, sequence: 150, heads: 2, keyValueHeads: 1, headDim: 32 },
  ...{ gate: 'elementwise', epsilon: 1e-6 },
};

interface Operand {
  readonly array: Activations;
  readonly values: Float32Array;
}

/** Random numbers, which are read when they are asked for. */
function operand(on: DeviceMemory, seed: number, length: number, storage: ActivationStorage): Operand {
  const array = randomArray(on, seed, length, storage);
  let values: Float32Array | undefined;
  return {
    array,
    get values() {
      values ??= floatsOf(array);
      return values;
    },
  };
}

export type Operands = Readonly<Record<'q' | 'k' | 'v' | 'dy', Operand>> & {
  readonly gate: Operand | undefined;
};

const gatesOf = ({ gate, headDim }: AttentionLayout) =>
  gate === 'none' ? 0 : gate === 'headwise' ? 1 : headDim;

export function operandsOf(
  on: DeviceMemory,
  layout: AttentionLayout,
  seed = 1,
  storage: ActivationStorage = 'bf16',
): Operands {
  const { batch, sequence, heads, keyValueHeads, headDim } = layout;
  const make = (offset: number, width: number) =>
    operand(on, seed + offset, batch * sequence * width, storage);
  const [q, k, v, dy] = [heads, keyValueHeads, keyValueHeads, heads].map((count, i) =>
    make(i, count * headDim),
  ) as [Operand, Operand, Operand, Operand];
  return { q, k, v, dy, gate: layout.gate === 'none' ? undefined : make(4, heads * gatesOf(layout)) };
}

/** What attention gives, and its gradients, and how each is launched. */
function attentionOf(
  on: DeviceMemory,
  layout: AttentionLayout,
  { q, k, v, gate, dy }: Operands,
  options: AttentionOptions,
) {
  const like = <T extends Operand | undefined>(operand: T) =>
    (operand && on.allocate(operand.array.length, operand.array.storage)) as T extends undefined
      ? undefined
      : Activations;
  const outputs = {
    y: like(q),
    logSumExp: on.allocate(layout.batch * layout.sequence * layout.heads, 'f32'),
  };
  const given = { q: q.array, k: k.array, v: v.array, gate: gate?.array };
  const gradients = { dq: like(q), dk: like(k), dv: like(v), dGate: gate && like(gate) };
  return {
    results: { ...outputs, ...gradients },
    forward: () => gatedAttention(given, outputs, layout, options),
    backward: () =>
      gatedAttentionBackward({ ...given, ...outputs, dy: dy.array }, gradients, layout, options),
  };
}

/** All results, by name. */
export function runAttention(layout: AttentionLayout, operands: Operands, options: AttentionOptions = {}) {
  const { results, forward, backward } = attentionOf(operands.q.array.device, layout, operands, options);
  forward();
  backward();
  return results;
}

/** Sums of terms, and of the sizes of what they are made of. */
class Sums {
  readonly values: Float64Array;
  readonly sizes: Float64Array;
  constructor(length: number) {
    this.values = new Float64Array(length);
    this.sizes = new Float64Array(length);
  }
  add(at: number, term: number, size = Math.abs(term)): void {
    this.values[at]! += term;
    this.sizes[at]! += size;
  }
}

function inDoublePrecision(layout: AttentionLayout, { q, k, v, gate, dy }: Operands) {
  const { batch, sequence, heads, keyValueHeads, headDim, scoreCap } = layout;
  const { window = Number.POSITIVE_INFINITY } = layout;
  const rows = batch * sequence;
  const gates = gatesOf(layout);
  const starts = layout.documents ?? Int32Array.from({ length: batch }, (_, i) => i * sequence);
  const [y, dq, dk, dv] = [heads, heads, keyValueHeads, keyValueHeads].map(
    (count) => new Sums(rows * count * headDim),
  ) as [Sums, Sums, Sums, Sums];
  const dGate = new Sums(rows * heads * gates);
  const logSumExp = new Float64Array(heads * rows);
  const scale = 1 / Math.sqrt(headDim);
  for (let query = 0; query < rows; query++) {
    const document = starts.findLast((start) => start <= query)!;
    const first = Math.max(document, query - window + 1);
    for (let head = 0; head < heads; head++) {
      const source = Math.floor(head / (heads / keyValueHeads));
      const own = (query * heads + head) * headDim;
      const keyAt = (i: number) => ((first + i) * keyValueHeads + source) * headDim;
      const count = query - first + 1;
      const dot = (a: Float32Array, at: number, b: (c: number) => number) => {
        let sum = 0;
        for (let c = 0; c < headDim; c++) sum += a[at + c]! * b(c);
        return sum;
      };
      const shares = Array.from({ length: count }, (_, i) => {
        const score = scale * dot(k.values, keyAt(i), (c) => q.values[own + c]!);
        return scoreCap === undefined ? score : Math.tanh(score / scoreCap);
      });
      const exponentials = shares.map((share) => Math.exp((scoreCap ?? 1) * share));
      const slope = (i: number) => (scoreCap === undefined ? 1 : 1 - shares[i]! ** 2);
      const sum = exponentials.reduce((a, b) => a + b, 0);
      logSumExp[head * rows + query] = Math.log(sum);
      const gateAt = (c: number) => (query * heads + head) * gates + (gates === 1 ? 0 : c);
      const open = (c: number) => (gates === 0 ? 1 : sigmoid(gate!.values[gateAt(c)]!));
      const dOut = (c: number) => dy.values[own + c]! * open(c);
      const average = (of: (value: number) => number) =>
        Array.from({ length: headDim }, (_, c) =>
          exponentials.reduce((total, e, i) => total + (e / sum) * of(v.values[keyAt(i) + c]!), 0),
        );
      const [out, outSize] = [average((value) => value), average(Math.abs)];
      const along = (values: number[], of: (value: number) => number) =>
        values.reduce((total, o, c) => total + o * of(dOut(c)), 0);
      const [delta, deltaSize] = [along(out, (value) => value), along(outSize, Math.abs)];
      for (let c = 0; c < headDim && gates > 0; c++) {
        const factor = dy.values[own + c]! * open(c) * (1 - open(c));
        dGate.add(gateAt(c), factor * out[c]!, Math.abs(factor) * outSize[c]!);
      }
      for (const [i, e] of exponentials.entries()) {
        const weight = e / sum;
        const share = weight * scale * slope(i);
        const gradient = share * (dot(v.values, keyAt(i), dOut) - delta);
        const size = share * (Math.abs(dot(v.values, keyAt(i), dOut)) + deltaSize);
        for (let c = 0; c < headDim; c++) {
          const [key, query] = [k.values[keyAt(i) + c]!, q.values[own + c]!];
          y.add(own + c, weight * open(c) * v.values[keyAt(i) + c]!);
          dq.add(own + c, gradient * key, size * Math.abs(key));
          dk.add(keyAt(i) + c, gradient * query, size * Math.abs(query));
          dv.add(keyAt(i) + c, weight * dOut(c));
        }
      }
    }
  }
  return { y, dq, dk, dv, dGate, logSumExp };
}

type Results = ReturnType<typeof runAttention>;

/**
 * Largest errors as shares of bounds: results, and of what they are made of weights, their gradients, dOut and y (of which delta is
 * formed), are rounded to their storage once each. What is left is of scores, which are sums over channels.
 */
function errorsOf(actual: Results, expected: ReturnType<typeof inDoublePrecision>): Errors {
  const share = (array: Activations, { values, sizes }: Sums, roundings: number) => {
    const bound = (i: number) =>
      roundingOf(array.storage) * (Math.abs(values[i]!) + roundings * sizes[i]!) + 1e-5 * sizes[i]! + 1e-30;
    return worstShare(floatsOf(array), values, bound);
  };
  return {
    y: share(actual.y, expected.y, 1),
    logSumExp: worstShare(actual.logSumExp.read(), expected.logSumExp, () => 1e-5),
    dq: share(actual.dq, expected.dq, 3),
    dk: share(actual.dk, expected.dk, 3),
    dv: share(actual.dv, expected.dv, 2),
    dGate: actual.dGate ? share(actual.dGate, expected.dGate, 2) : 0,
  };
}

/** Attention with its gradients, on random operands, beside double precision. */
export function attentionErrors(
  on: DeviceMemory,
  layout: AttentionLayout,
  seed?: number,
  storage?: ActivationStorage,
): Errors {
  const operands = operandsOf(on, layout, seed, storage);
  return errorsOf(runAttention(layout, operands), inDoublePrecision(layout, operands));
}

/** q·kᵀ and weights·v over the pairs that the causal mask and the window leave. */
function forwardFlops({ batch, sequence, heads, headDim, window = sequence }: AttentionLayout): number {
  const seen = Math.min(window, sequence);
  return 4 * batch * (seen * sequence - (seen * (seen - 1)) / 2) * heads * headDim;
}

export function attentionCase(
  on: DeviceMemory,
  layout: AttentionLayout,
  passes: 'forward' | 'backward' | 'both' = 'both',
  { storage, ...options }: AttentionOptions & { readonly storage?: ActivationStorage } = {},
): KernelCase {
  const operands = operandsOf(on, layout, 1, storage);
  const { results, forward, backward } = attentionOf(on, layout, operands, options);
  // What the way back needs.
  if (passes === 'backward') forward();
  const { dGate, ...others } = results;
  // The way back forms the scores once more, and two products for each of the forward pass's.
  const parts = { forward: 1, backward: 2.5, both: 3.5 };
  return {
    run() {
      if (passes !== 'backward') forward();
      if (passes !== 'forward') backward();
    },
    outputs: () => outputsOf(dGate ? { ...others, dGate } : others),
    flops: parts[passes] * forwardFlops(layout),
    judge: () => {
      const expected = inDoublePrecision(layout, operands);
      return () => errorsOf(results, expected);
    },
  };
}

/** Attention of the last tokens of a sequence, `layout.sequence` of them, to keys and values that are kept in single precision. */
export function cachedAttentionCase(
  on: DeviceMemory,
  layout: AttentionLayout,
  tokens: number,
  storage: ActivationStorage = 'bf16',
): KernelCase {
  const { sequence, heads, keyValueHeads, headDim } = layout;
  const rows = (seed: number, count: number, width: number) => operand(on, seed, count * width, storage);
  const [q, gate] = [rows(1, sequence, heads * headDim), rows(2, sequence, heads * gatesOf(layout))];
  const [keys, values] = [3, 4].map((seed) =>
    randomArray(on, seed, tokens * keyValueHeads * headDim, 'f32'),
  ) as [DeviceArray<'f32'>, DeviceArray<'f32'>];
  const y = on.allocate(q.array.length, storage);
  const gates = layout.gate === 'none' ? undefined : gate;
  return {
    run: () => cachedAttention({ q: q.array, keys, values, tokens, gate: gates?.array }, y, layout),
    outputs: () => outputsOf({ y }),
    bytes: 8 * keys.length,
    judge: () => {
      // As if all tokens had queries, of which the last ones are looked at.
      const before = tokens - sequence;
      const padded = (values: Float32Array, width: number) => {
        const all = new Float32Array(tokens * width);
        all.set(values, before * width);
        return { array: q.array, values: all };
      };
      const whole = { ...layout, sequence: tokens };
      const expected = inDoublePrecision(whole, {
        q: padded(q.values, heads * headDim),
        k: { array: q.array, values: floatsOf(keys) },
        v: { array: q.array, values: floatsOf(values) },
        dy: padded(new Float32Array(q.values.length), heads * headDim),
        gate: gates && padded(gates.values, heads * gatesOf(layout)),
      }).y;
      const at = (i: number) => before * heads * headDim + i;
      const last = expected.values.subarray(at(0));
      const bound = (i: number) =>
        1.01 * roundingOf(storage) * Math.abs(last[i]!) + 1e-5 * expected.sizes[at(i)]! + 1e-30;
      return () => ({ y: worstShare(floatsOf(y), last, bound) });
    },
  };
}
