/** Attention on an emulated device beside double precision. Shapes as in `gatedAttention`. */

import type { AttentionLayout } from '@sluice/engine';
import {
  type CudaDevice,
  type DeviceArray,
  gatedAttention,
  gatedAttentionBackward,
} from '@sluice/engine/cuda';
import { activations, BF16_ROUNDING, floatsOf, worstShare } from './cuda.ts';

export const LAYOUT: AttentionLayout = {
  ...{ batch: 1, sequence: 150, heads: 2, keyValueHeads: 1, headDim: 32 },
  ...{ gate: 'elementwise', epsilon: 1e-6 },
};

interface Operand {
  readonly array: DeviceArray<'bf16'>;
  readonly values: Float32Array;
}
export type Operands = Readonly<Record<'q' | 'k' | 'v' | 'dy', Operand>> & {
  readonly gate: Operand | undefined;
};

const gatesOf = ({ gate, headDim }: AttentionLayout) =>
  gate === 'none' ? 0 : gate === 'headwise' ? 1 : headDim;

export function operandsOf(on: CudaDevice, layout: AttentionLayout, seed = 1): Operands {
  const { batch, sequence, heads, keyValueHeads, headDim } = layout;
  const make = (offset: number, width: number) =>
    activations(on, seed + offset, batch * sequence * width, 'bf16');
  const [q, k, v, dy] = [heads, keyValueHeads, keyValueHeads, heads].map((count, i) =>
    make(i, count * headDim),
  ) as [Operand, Operand, Operand, Operand];
  return { q, k, v, dy, gate: layout.gate === 'none' ? undefined : make(4, heads * gatesOf(layout)) };
}

/** All results, by name. */
export function runAttention(layout: AttentionLayout, { q, k, v, gate, dy }: Operands) {
  const on = q.array.device;
  const like = <T extends Operand | undefined>(operand: T) =>
    (operand && on.allocate(operand.array.length, 'bf16')) as T extends undefined
      ? undefined
      : DeviceArray<'bf16'>;
  const outputs = {
    y: like(q),
    logSumExp: on.allocate(layout.batch * layout.sequence * layout.heads, 'f32'),
  };
  const given = { q: q.array, k: k.array, v: v.array, gate: gate?.array };
  gatedAttention(given, outputs, layout);
  const gradients = { dq: like(q), dk: like(k), dv: like(v), dGate: gate && like(gate) };
  gatedAttentionBackward({ ...given, ...outputs, dy: dy.array }, gradients, layout);
  return { ...outputs, ...gradients };
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
      const open = (c: number) => (gates === 0 ? 1 : 1 / (1 + Math.exp(-gate!.values[gateAt(c)]!)));
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

/**
 * Largest errors as shares of bounds: results, and of what they are made of weights, their gradients, dOut and y (of which delta is
 * formed), are rounded to bf16 once each.
 */
export function attentionErrors(
  on: CudaDevice,
  layout: AttentionLayout,
  seed?: number,
): Record<string, number> {
  const operands = operandsOf(on, layout, seed);
  const expected = inDoublePrecision(layout, operands);
  const actual = runAttention(layout, operands);
  const share = (array: DeviceArray<'bf16'>, { values, sizes }: Sums, roundings: number) => {
    const bound = (i: number) =>
      BF16_ROUNDING * (Math.abs(values[i]!) + roundings * sizes[i]!) + 1e-5 * sizes[i]! + 1e-30;
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
