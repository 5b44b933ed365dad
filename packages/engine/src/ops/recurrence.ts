/** What the definitions of delta rules have in common, in plain operations. */

import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, runFused, runFusedMany } from '../fused.ts';
import { Parameter } from '../parameter.ts';
import { documentStarts, type RowLayout } from './attentionLayout.ts';
import { RMS_NORM, rmsNorm } from './rmsNorm.ts';

/** Added to the sum of squares under the root that brings queries and keys to unit length. */
const EPSILON = 1e-6;

/** What heads have for each token: [N, H·channels], in any shape of as many numbers. */
export interface HeadsOfTokens {
  /** Of unit length, Dk channels. */
  readonly q: tf.Tensor;
  readonly k: tf.Tensor;
  /** Dv channels. */
  readonly v: tf.Tensor;
  /** 1 channel. */
  readonly beta: tf.Tensor;
  /** The decay's logarithm, at most 0: 1 channel, or one for each of a key. */
  readonly g: tf.Tensor;
}

export interface RecurrenceLayout extends RowLayout {
  /** H, each with a state of its own. */
  readonly heads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** Decays of a head: 1 or Dk. */
  readonly decays: number;
}

/** `deltaRuleOverTokens` from zeros, where a backend has a kernel for it, but none for a whole delta rule. */
export const DELTA_RECURRENCE = fusedOperation<RecurrenceLayout>({
  name: 'SluiceDeltaRecurrence',
  inputsToSave: ['q', 'k', 'v', 'beta', 'g'],
});
/** The same for a sequence that is continued; it gives the state after the last token, too. */
export const DELTA_CONTINUATION = fusedOperation<RecurrenceLayout>({
  name: 'SluiceDeltaContinuation',
  inputsToSave: [],
});

/**
 * [N, heads·channels] with the channels of each head at unit length: their RMS norm over √channels, by its kernel where there is one, which
 * adds up in single precision.
 * @returns [N, heads, channels]
 */
export function unitRows(x: tf.Tensor, heads: number, channels: number): tf.Tensor {
  const rows = tf.reshape(x, [-1, heads, channels]);
  if (!hasFused(RMS_NORM)) return tf.mul(rows, tf.rsqrt(tf.add(tf.sum(tf.square(rows), 2, true), EPSILON)));
  const normed = rmsNorm(tf.reshape(x, [-1, channels]), unitGain(channels), EPSILON / channels);
  return tf.reshape(normed, rows.shape);
}

/** By backend, whose memory they are in, and by their number. */
const unitGains = new WeakMap<object, Map<number, Parameter>>();

function unitGain(channels: number): Parameter {
  const known = unitGains.get(tf.backend()) ?? new Map<number, Parameter>();
  unitGains.set(tf.backend(), known);
  const gain = known.get(channels) ?? Parameter.filled('unit length', [channels], channels ** -0.5);
  known.set(channels, gain);
  return gain;
}

/** [rows, 1, C] as [rows, times, C]. The gradient of a sum with zeros is one sum; that of `tf.tile` adds slice after slice. */
export function repeated(x: tf.Tensor, times: number): tf.Tensor {
  return times === 1 ? x : tf.add(x, tf.fill([1, times, 1], 0));
}

/** What a delta rule gives. */
export interface DeltaRuleResult {
  /** o, [N, H·Dv] */
  readonly y: tf.Tensor2D;
  /** [B, H, Dk, Dv], after the last token; where none was given before the first, there may be none. */
  readonly state?: tf.Tensor4D;
}

/**
 * S ← e^g ⊙ S, u = β·(v − Sᵀk), S ← S + k·uᵀ, o = Sᵀq/√Dk, one token after the other.
 * @param before [B, H, Dk, Dv]; zeros when left out
 */
export function deltaRuleOverTokens(
  tokens: HeadsOfTokens,
  { batch, sequence, documents, heads, keyDim, valueDim, decays }: RecurrenceLayout,
  before?: tf.Tensor4D,
): DeltaRuleResult {
  const layout = { batch, sequence, documents, heads, keyDim, valueDim, decays };
  if (!hasFused(DELTA_RECURRENCE)) return tokenAfterToken(tokens, layout, before);
  if (!before) return { y: runFused(DELTA_RECURRENCE, { ...tokens }, layout) };
  const [y, state] = runFusedMany(DELTA_CONTINUATION, { ...tokens, before }, layout);
  return { y: y as tf.Tensor2D, state: state as tf.Tensor4D };
}

/** The definition of `deltaRuleOverTokens`. */
function tokenAfterToken(
  { q, k, v, beta, g }: HeadsOfTokens,
  layout: RecurrenceLayout,
  before?: tf.Tensor4D,
): DeltaRuleResult {
  const { batch, sequence, heads, keyDim, valueDim, decays } = layout;
  /** For each token, [B·H, …]. */
  const tokens = (x: tf.Tensor, rows: number, columns: number) =>
    tf
      .unstack(tf.reshape(x, [batch, sequence, heads, rows * columns]), 1)
      .map((token) => tf.reshape(token, [batch * heads, rows, columns]));
  const [queries, keys, values] = [tokens(q, 1, keyDim), tokens(k, 1, keyDim), tokens(v, 1, valueDim)];
  const [betas, factors] = [tokens(beta, 1, 1), tokens(tf.exp(g), decays, 1)];
  const starts = documentStarts(layout);
  let state = before
    ? tf.reshape(before, [batch * heads, keyDim, valueDim])
    : tf.fill([batch * heads, keyDim, valueDim], 0);
  const outputs = queries.map((query, t) => {
    const isFirst = Array.from({ length: batch }, (_, i) => starts[i * sequence + t] === i * sequence + t);
    if (!before && isFirst.some(Boolean)) {
      const kept = Float32Array.from({ length: batch * heads }, (_, i) =>
        isFirst[Math.floor(i / heads)] ? 0 : 1,
      );
      state = tf.mul(state, tf.tensor3d(kept, [batch * heads, 1, 1]));
    }
    state = tf.mul(state, factors[t]!);
    const key = keys[t]!;
    const u = tf.mul(betas[t]!, tf.sub(values[t]!, tf.matMul(key, state)));
    state = tf.add(state, tf.matMul(key, u, true, false));
    return tf.reshape(tf.matMul(tf.mul(query, keyDim ** -0.5), state), [batch, heads * valueDim]);
  });
  return {
    y: tf.reshape(tf.stack(outputs, 1), [batch * sequence, heads * valueDim]),
    state: tf.reshape(state, [batch, heads, keyDim, valueDim]),
  };
}

/** Tokens of a chunk: a sequence that is cut where chunks end has the bits of the whole one. */
export const DELTA_RULE_CHUNK = 64;

/**
 * Numbers that the native backward pass of a delta rule works in, for one key head, its value heads, and one document: for each chunk
 * of tokens the state before it, and two numbers for each value; and what it needs for one chunk at a time.
 * @param hasChannelDecays whether each channel of a key decays for itself
 */
export function deltaRuleScratch(
  { valueHeads, keyDim, valueDim }: { valueHeads: number; keyDim: number; valueDim: number },
  tokens: number,
  hasChannelDecays: boolean,
): number {
  const padded = (channels: number) => 16 * Math.ceil(channels / 16);
  const [chunk, key, value] = [DELTA_RULE_CHUNK, padded(keyDim), padded(valueDim)];
  const chunks = Math.ceil(tokens / chunk);
  const state = key * value;
  const kept = valueHeads * (state + chunks * (state + 2 * chunk * value)) + 2 * state + 3 * chunk * value;
  return hasChannelDecays
    ? kept + (21 * chunk + 5) * key + (5 * chunk + 6) * chunk
    : kept + 11 * chunk * key + (7 * chunk + 11) * chunk;
}

/** log(1 + e^x), without overflow, in operations that every backend has where it has none for it. */
export function softplus(x: tf.Tensor): tf.Tensor {
  if (tf.getKernel(tf.Softplus, tf.getBackend())) return tf.softplus(x);
  return tf.add(tf.relu(x), tf.log1p(tf.exp(tf.neg(tf.abs(x)))));
}
