/** The recurrence of delta rules. N: tokens; H: heads; Dk: channels of a key; Dv: of a value. */

import type { RecurrenceLayout } from '../../ops/recurrence.ts';
import { deltaRule, deltaRuleBackward } from '../deltaRule.ts';
import { takesChunks } from '../deltaRuleMemory.ts';
import type { DeviceArray } from '../device.ts';
import {
  type ActivationStorage,
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
  randomValues,
  roundingOf,
} from './case.ts';

type Floats = DeviceArray<'f32'>;

/** Random numbers from `low` to `high`. */
function between(on: DeviceMemory, seed: number, length: number, low: number, high: number): Floats {
  const values = randomValues(seed, length).map((value) => low + ((value + 1) / 2) * (high - low));
  return on.upload(values, 'f32');
}

/** Each document from a state of zeros. */
export function recurrenceCase(
  on: DeviceMemory,
  layout: RecurrenceLayout,
  isBackward: boolean,
  storage: ActivationStorage = 'bf16',
): KernelCase {
  const { batch, sequence, heads, keyDim, valueDim, decays } = layout;
  const rows = batch * sequence * heads;
  // About as long as the unit vectors that models give.
  const isInChunks = takesChunks(layout, storage);
  const form = isInChunks ? 'bf16' : 'f32';
  const key = (seed: number) => randomArray(on, seed, rows * keyDim, form, Math.sqrt(3 / keyDim));
  const operands = {
    ...{ q: key(1), k: key(2), v: randomArray(on, 3, rows * valueDim, form) },
    ...{ beta: between(on, 4, rows, 0, 1), g: between(on, 5, rows * decays, Math.log(0.8), 0) },
  };
  const dy = randomArray(on, 6, rows * valueDim, storage);
  const y = on.allocate(rows * valueDim, storage);
  const like = <S extends ActivationStorage>({ length, storage }: DeviceArray<S>) =>
    on.allocate(length, storage);
  const gradients = {
    ...{ q: like(operands.q), k: like(operands.k), v: like(operands.v) },
    ...{ beta: like(operands.beta), g: like(operands.g) },
  };
  return {
    run() {
      if (isBackward) deltaRuleBackward({ ...operands, dy }, gradients, layout);
      else deltaRule(operands, y, layout);
    },
    outputs: () => outputsOf(isBackward ? gradients : { y }),
    // Of a state: its decay, three products, and for the way back these once more, and twice as many.
    flops: (isBackward ? 21 : 7) * rows * keyDim * valueDim,
    judge: () => {
      const values = Object.values(operands).map(floatsOf) as RecurrenceValues;
      const exact = recurrenceInDouble(values, floatsOf(dy), layout);
      // What a token does is seen by those after it, of which most forget it within a few. In chunks, operands are rounded to bf16.
      const near = (of: Float64Array) => {
        const most = of.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
        return () => (isInChunks ? 2 ** -7 : 2e-5) * most;
      };
      if (!isBackward) {
        const besides = near(exact.y)();
        const bound = (i: number) => 1.01 * roundingOf(storage) * Math.abs(exact.y[i]!) + besides;
        return judged({ y: { array: y, expected: exact.y, bound } });
      }
      const results = Object.entries(gradients).map(([name, array], i) => [
        name,
        { array, expected: exact.gradients[i]!, bound: near(exact.gradients[i]!) },
      ]);
      return judged(Object.fromEntries(results));
    },
  };
}

type RecurrenceValues = [
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  beta: Float32Array,
  g: Float32Array,
];

/** S ← e^g ⊙ S, u = β·(v − Sᵀk), S ← S + k·uᵀ, o = Sᵀq/√Dk, and the way back through all tokens. */
function recurrenceInDouble(
  [q, k, v, beta, g]: RecurrenceValues,
  dy: Float32Array,
  { batch, sequence, heads, keyDim, valueDim, decays }: RecurrenceLayout,
) {
  const scale = keyDim ** -0.5;
  const y = new Float64Array(v.length);
  const [dq, dk, dv, dBeta, dG] = [q, k, v, beta, g].map(({ length }) => new Float64Array(length)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const placeOf = (at: number, i: number) => at * decays + (decays === 1 ? 0 : i);
  const decay = Float64Array.from(g, Math.exp);
  for (let document = 0; document < batch * heads; document++) {
    const [sample, head] = [Math.floor(document / heads), document % heads];
    const rowOf = (token: number) => (sample * sequence + token) * heads + head;
    const states: Float64Array[] = [new Float64Array(keyDim * valueDim)];
    const [residuals, updates]: [Float64Array[], Float64Array[]] = [[], []];
    for (let token = 0; token < sequence; token++) {
      const at = rowOf(token);
      const state = states[token]!.map((s, e) => s * decay[placeOf(at, Math.floor(e / valueDim))]!);
      const residual = Float64Array.from({ length: valueDim }, (_, j) => v[at * valueDim + j]!);
      for (const [e, s] of state.entries())
        residual[e % valueDim]! -= s * k[at * keyDim + Math.floor(e / valueDim)]!;
      const update = residual.map((value) => beta[at]! * value);
      for (const e of state.keys()) {
        const i = at * keyDim + Math.floor(e / valueDim);
        state[e]! += k[i]! * update[e % valueDim]!;
        y[at * valueDim + (e % valueDim)]! += scale * state[e]! * q[i]!;
      }
      states.push(state);
      residuals.push(residual);
      updates.push(update);
    }
    const dState = new Float64Array(keyDim * valueDim);
    for (let token = sequence - 1; token >= 0; token--) {
      const at = rowOf(token);
      const [before, after, update] = [states[token]!, states[token + 1]!, updates[token]!];
      const dUpdate = new Float64Array(valueDim);
      for (const e of dState.keys()) {
        const [i, j] = [at * keyDim + Math.floor(e / valueDim), e % valueDim];
        const slope = dy[at * valueDim + j]!;
        dq[i]! += scale * after[e]! * slope;
        dState[e]! += scale * q[i]! * slope;
        dUpdate[j]! += dState[e]! * k[i]!;
        dk[i]! += dState[e]! * update[j]!;
      }
      for (const [j, slope] of dUpdate.entries()) {
        dBeta[at]! += slope * residuals[token]![j]!;
        dv[at * valueDim + j] = beta[at]! * slope;
      }
      for (const e of dState.keys()) {
        const [row, j] = [Math.floor(e / valueDim), e % valueDim];
        const [i, factor] = [at * keyDim + row, decay[placeOf(at, row)]!];
        const slope = dv[at * valueDim + j]!;
        dk[i]! -= factor * before[e]! * slope;
        dState[e]! -= k[i]! * slope;
        dG[placeOf(at, row)]! += factor * dState[e]! * before[e]!;
        dState[e]! *= factor;
      }
    }
  }
  return { y, gradients: [dq, dk, dv, dBeta, dG] };
}
