/**
 * The recurrence of Kimi Delta Attention (Kimi Linear, arXiv 2510.26692 §3): the gated delta rule with a decay of each channel of a
 * key. With q and k brought to unit length, q divided by √Dk, β = σ(b) and g = −e^aLog · softplus(a + dtBias), each head has a state
 * S [Dk, Dv]:
 *
 *   S ← diag(e^g)·S    u = β·(v − Sᵀk)    S ← S + k·uᵀ    o = Sᵀq
 *
 * A document begins with a state of zeros. The kernel takes tokens in chunks of 64, counted from the document's first token; its time
 * and memory grow with the length alone, and it keeps nothing for the gradient but its inputs.
 *
 * Shapes: B sequences of T tokens, N = B·T rows; H heads of Dk channels of a key and Dv of a value; W = H·(2·Dk + Dv) columns: the
 * queries of all heads, their keys, the values; D = H·Dk.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative, type KernelArgument } from '../native.ts';
import { recomputed } from '../recompute.ts';
import { documentArguments, type RowLayout } from './attentionLayout.ts';
import type { DecayParameters } from './gatedDeltaRule.ts';
import { type DeltaRuleResult, deltaRuleOverTokens, softplus, unitRows } from './recurrence.ts';
import { inSinglePrecision } from './singlePrecision.ts';

const KIMI_DELTA_RULE = fusedOperation<Attributes>({
  name: 'SluiceKimiDeltaRule',
  inputsToSave: ['heads', 'beta', 'decay'],
  rebuildable: true,
});

export interface KimiDeltaRuleLayout extends RowLayout {
  /** H */
  readonly heads: number;
  /** Dk, channels of a query or key. */
  readonly keyDim: number;
  /** Dv, channels of a value. */
  readonly valueDim: number;
}

export interface KimiDeltaRuleInputs {
  /** [N, W]: queries, keys and values. */
  readonly heads: tf.Tensor2D;
  /** [N, H]: b. */
  readonly beta: tf.Tensor2D;
  /** [N, D]: a. */
  readonly decay: tf.Tensor2D;
}

interface Attributes extends DecayParameters {
  readonly layout: KimiDeltaRuleLayout;
  readonly state: Float32Array | null;
}

/**
 * @param decay aLog [H] and dtBias [D]
 * @param state [H, Dk, Dv], for one sequence that is continued, without a gradient: where the tokens begin; gets the state after
 *   the last. Cut where chunks end, a sequence has the same bits as in one piece; cut elsewhere the same to rounding
 * @returns o, [N, H·Dv]
 */
export function kimiDeltaRule(
  inputs: KimiDeltaRuleInputs,
  decay: DecayParameters,
  layout: KimiDeltaRuleLayout,
  state?: Float32Array,
): tf.Tensor2D {
  const { batch, documents, heads, keyDim, valueDim } = layout;
  const widths = [heads * (2 * keyDim + valueDim), heads, heads * keyDim];
  const given = [inputs.heads, inputs.beta, inputs.decay].map(({ shape }) => shape[1]!);
  invariant(
    given.every((width, i) => width === widths[i]),
    `columns ${widths} of heads, β and decay, not ${given}`,
  );
  if (state) {
    invariant(batch === 1 && !documents, 'a state belongs to one sequence');
    invariant(state.length === heads * keyDim * valueDim, `a state of ${heads * keyDim * valueDim} numbers`);
  }
  if (!hasFused(KIMI_DELTA_RULE)) return inPlainOperations(inputs, decay, layout, state);
  return runFused(KIMI_DELTA_RULE, { ...inputs }, {
    ...decay,
    layout,
    state: state ?? null,
  } satisfies Attributes);
}

function inPlainOperations(
  { heads, beta, decay: logits }: KimiDeltaRuleInputs,
  { aLog, dtBias }: DecayParameters,
  layout: KimiDeltaRuleLayout,
  state: Float32Array | undefined,
): tf.Tensor2D {
  const compute = (heads: tf.Tensor, beta: tf.Tensor, decay: tf.Tensor, before?: tf.Tensor4D) =>
    kimiDeltaRuleReference(
      { heads, beta, decay } as KimiDeltaRuleInputs,
      aLog.onTape() as tf.Tensor1D,
      dtBias.onTape() as tf.Tensor1D,
      layout,
      before,
    );
  if (!state) return recomputed([heads, beta, logits], (h, b, a) => compute(h!, b!, a!).y);
  return tf.tidy(() => {
    const shape: [number, number, number, number] = [1, layout.heads, layout.keyDim, layout.valueDim];
    const { y, state: after } = compute(heads, beta, logits, tf.tensor4d(state.slice(), shape));
    state.set(after!.dataSync<'float32'>());
    return y;
  });
}

/** The definition of `kimiDeltaRule`, one token after the other. @param before [B, H, Dk, Dv]; zeros when left out */
export function kimiDeltaRuleReference(
  inputs: KimiDeltaRuleInputs,
  aLog_H: tf.Tensor1D,
  dtBias_D: tf.Tensor1D,
  layout: KimiDeltaRuleLayout,
  before?: tf.Tensor4D,
): DeltaRuleResult {
  const { heads, keyDim, valueDim } = layout;
  const [keys, values] = [heads * keyDim, heads * valueDim];
  const [q, k, v] = tf.split(inputs.heads, [keys, keys, values], 1) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const a_NHD = tf.reshape(tf.add(inSinglePrecision(inputs.decay), dtBias_D), [-1, heads, keyDim]);
  const rate_H1 = tf.reshape(tf.exp(aLog_H), [heads, 1]);
  return deltaRuleOverTokens(
    {
      q: unitRows(q, heads, keyDim),
      k: unitRows(k, heads, keyDim),
      v,
      beta: tf.sigmoid(inSinglePrecision(inputs.beta)),
      g: tf.neg(tf.mul(rate_H1, softplus(a_NHD))),
    },
    { ...layout, decays: keyDim },
    before,
  );
}

function sizes(layout: KimiDeltaRuleLayout): KernelArgument[] {
  return [...documentArguments(layout), layout.heads, layout.keyDim, layout.valueDim];
}

implementFused('native', KIMI_DELTA_RULE, {
  forward({ input, output, recording, attributes: { aLog, dtBias, layout, state } }) {
    invariant(!(recording && state), 'a sequence that is continued has no gradient');
    const y = output([layout.batch * layout.sequence, layout.heads * layout.valueDim]);
    const inputs = [input('heads'), input('beta'), input('decay'), aLog.values, dtBias.values];
    callNative('kimiDeltaRule', ...inputs, y.values, state, ...sizes(layout));
    return y.info;
  },
  backward({ valuesOf, over, attributes: { aLog, dtBias, layout } }, [dy], [heads, beta, decay]) {
    const saved = [heads!, beta!, decay!];
    const inputs = [...saved.map(valuesOf), aLog.values, dtBias.values];
    // The kernel has read each place for the last time when it writes there.
    const [dHeads, dBeta, dDecay] = saved.map(over) as [
      ReturnType<typeof over>,
      ReturnType<typeof over>,
      ReturnType<typeof over>,
    ];
    aLog.contribute((toALog) =>
      dtBias.contribute((toDtBias) => {
        const outputs = [dHeads, dBeta, dDecay, toALog, toDtBias].map(({ values }) => values);
        const accumulate = [toALog.accumulate, toDtBias.accumulate];
        callNative(
          'kimiDeltaRuleBackward',
          ...inputs,
          valuesOf(dy!),
          ...outputs,
          ...accumulate,
          ...sizes(layout),
        );
      }),
    );
    return { heads: dHeads.tensor, beta: dBeta.tensor, decay: dDecay.tensor };
  },
});
