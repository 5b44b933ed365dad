/**
 * The gated delta rule (Yang et al., Gated Delta Networks, 2024), the recurrence of linear-attention layers. With q and k brought
 * to unit length, q divided by √Dk, β = σ(b) and g = −e^aLog · softplus(a + dtBias), each value head has a state S [Dk, Dv]:
 *
 *   S ← e^g·S    u = β·(v − Sᵀk)    S ← S + k·uᵀ    o = Sᵀq
 *
 * Value head j has the queries and keys of key head ⌊j / (V / K)⌋. A document begins with a state of zeros. The kernel takes tokens
 * in chunks of 64 (Yang et al., Parallelizing Linear Transformers with the Delta Rule, 2024), counted from the document's first
 * token; its time and memory grow with the length alone, and it keeps nothing for the gradient but its inputs.
 *
 * Shapes: B sequences of T tokens, N = B·T rows; K key heads of Dk channels, V value heads of Dv; W = 2·K·Dk + V·Dv columns: the
 * queries of all key heads, their keys, the values.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative, type KernelArgument } from '../native.ts';
import type { Parameter } from '../parameter.ts';
import { recomputed } from '../recompute.ts';
import { documentArguments, type RowLayout } from './attentionLayout.ts';
import { type DeltaRuleResult, deltaRuleOverTokens, repeated, softplus, unitRows } from './recurrence.ts';
import { inSinglePrecision } from './singlePrecision.ts';

const GATED_DELTA_RULE = fusedOperation<Attributes>({
  name: 'SluiceGatedDeltaRule',
  inputsToSave: ['heads', 'logits'],
  rebuildable: true,
});

export interface DeltaRuleLayout extends RowLayout {
  /** K, key heads. */
  readonly keyHeads: number;
  /** V, value heads, a multiple of K. */
  readonly valueHeads: number;
  /** Dk, channels of a query or key. */
  readonly keyDim: number;
  /** Dv, channels of a value. */
  readonly valueDim: number;
  /** Whether β is 2σ(b), so that a state's direction may change its sign (Grazzi et al., 2024). */
  readonly allowNegativeEigenvalues: boolean;
}

/** The logarithm of each value head's decay rate, [V], and what is added to the decay's logits, of as many numbers as a token has of those. */
export interface DecayParameters {
  readonly aLog: Parameter;
  readonly dtBias: Parameter;
}

interface Attributes extends DecayParameters {
  readonly layout: DeltaRuleLayout;
  readonly state: Float32Array | null;
}

/**
 * @param heads_NW queries, keys and values
 * @param logits_N2V b of all value heads, and then a of all
 * @param state [V, Dk, Dv], for one sequence that is continued, without a gradient: where the tokens begin; gets the state after
 *   the last. Cut where chunks end, a sequence has the same bits as in one piece; cut elsewhere the same to rounding
 * @returns o, [N, V·Dv]
 */
export function gatedDeltaRule(
  heads_NW: tf.Tensor2D,
  logits_N2V: tf.Tensor2D,
  decay: DecayParameters,
  layout: DeltaRuleLayout,
  state?: Float32Array,
): tf.Tensor2D {
  const { batch, documents, keyHeads, valueHeads, keyDim, valueDim } = layout;
  const width = 2 * keyHeads * keyDim + valueHeads * valueDim;
  invariant(
    heads_NW.shape[1] === width,
    `${width} columns of queries, keys and values, not ${heads_NW.shape[1]}`,
  );
  invariant(logits_N2V.shape[1] === 2 * valueHeads, `logits of β and decay of ${valueHeads} heads`);
  invariant(valueHeads % keyHeads === 0, `${valueHeads} value heads for ${keyHeads} key heads`);
  if (state) {
    invariant(batch === 1 && !documents, 'a state belongs to one sequence');
    invariant(
      state.length === valueHeads * keyDim * valueDim,
      `a state of ${valueHeads * keyDim * valueDim} numbers`,
    );
  }
  if (!hasFused(GATED_DELTA_RULE)) return inPlainOperations(heads_NW, logits_N2V, decay, layout, state);
  const attributes: Attributes = { ...decay, layout, state: state ?? null };
  return runFused(GATED_DELTA_RULE, { heads: heads_NW, logits: logits_N2V }, attributes);
}

function inPlainOperations(
  heads_NW: tf.Tensor2D,
  logits_N2V: tf.Tensor2D,
  { aLog, dtBias }: DecayParameters,
  layout: DeltaRuleLayout,
  state: Float32Array | undefined,
): tf.Tensor2D {
  const compute = (heads: tf.Tensor, logits: tf.Tensor, before?: tf.Tensor4D) =>
    gatedDeltaRuleReference(
      heads as tf.Tensor2D,
      logits as tf.Tensor2D,
      aLog.onTape() as tf.Tensor1D,
      dtBias.onTape() as tf.Tensor1D,
      layout,
      before,
    );
  if (!state) return recomputed([heads_NW, logits_N2V], (heads, logits) => compute(heads!, logits!).y);
  return tf.tidy(() => {
    const shape: [number, number, number, number] = [1, layout.valueHeads, layout.keyDim, layout.valueDim];
    const { y, state: after } = compute(heads_NW, logits_N2V, tf.tensor4d(state.slice(), shape));
    state.set(after!.dataSync<'float32'>());
    return y;
  });
}

/** The definition of `gatedDeltaRule`, one token after the other. @param before [B, V, Dk, Dv]; zeros when left out */
export function gatedDeltaRuleReference(
  heads_NW: tf.Tensor2D,
  logits_N2V: tf.Tensor2D,
  aLog_V: tf.Tensor1D,
  dtBias_V: tf.Tensor1D,
  layout: DeltaRuleLayout,
  before?: tf.Tensor4D,
): DeltaRuleResult {
  const { batch, sequence, keyHeads, valueHeads, keyDim, valueDim } = layout;
  const [keys, values] = [keyHeads * keyDim, valueHeads * valueDim];
  const [q, k, v] = tf.split(heads_NW, [keys, keys, values], 1) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const [b, a] = tf.split(inSinglePrecision(logits_N2V), 2, 1) as [tf.Tensor, tf.Tensor];
  /** For each value head the row of its key head. */
  const shared = (x: tf.Tensor) =>
    repeated(
      tf.reshape(unitRows(x, keyHeads, keyDim), [batch * sequence * keyHeads, 1, keyDim]),
      valueHeads / keyHeads,
    );
  return deltaRuleOverTokens(
    {
      ...{ q: shared(q), k: shared(k), v },
      beta: tf.mul(tf.sigmoid(b), layout.allowNegativeEigenvalues ? 2 : 1),
      g: tf.neg(tf.mul(tf.exp(aLog_V), softplus(tf.add(a, dtBias_V)))),
    },
    { ...layout, heads: valueHeads, decays: 1 },
    before,
  );
}

function sizes(layout: DeltaRuleLayout): KernelArgument[] {
  const { keyHeads, valueHeads, keyDim, valueDim, allowNegativeEigenvalues } = layout;
  return [...documentArguments(layout), keyHeads, valueHeads, keyDim, valueDim, allowNegativeEigenvalues];
}

implementFused('native', GATED_DELTA_RULE, {
  forward({ input, output, recording, attributes: { aLog, dtBias, layout, state } }) {
    invariant(!(recording && state), 'a sequence that is continued has no gradient');
    const y = output([layout.batch * layout.sequence, layout.valueHeads * layout.valueDim]);
    const inputs = [input('heads'), input('logits'), aLog.values, dtBias.values];
    callNative('gatedDeltaRule', ...inputs, y.values, state, ...sizes(layout));
    return y.info;
  },
  backward({ valuesOf, over, attributes: { aLog, dtBias, layout } }, [dy], [heads, logits]) {
    const inputs = [valuesOf(heads!), valuesOf(logits!), aLog.values, dtBias.values];
    // The kernel has read each place for the last time when it writes there.
    const [dHeads, dLogits] = [over(heads!), over(logits!)];
    aLog.contribute((toALog) =>
      dtBias.contribute((toDtBias) => {
        const outputs = [dHeads.values, dLogits.values, toALog.values, toDtBias.values];
        const accumulate = [toALog.accumulate, toDtBias.accumulate];
        callNative(
          'gatedDeltaRuleBackward',
          ...inputs,
          valuesOf(dy!),
          ...outputs,
          ...accumulate,
          ...sizes(layout),
        );
      }),
    );
    return { heads: dHeads.tensor, logits: dLogits.tensor };
  },
});
