/**
 * Gated causal attention of new tokens to all tokens so far, whose keys and values are kept from call to call: what
 * `gatedAttention` gives for the last rows of the whole sequence. For inference; it has no gradient.
 *
 * Shapes: T new tokens after P earlier ones, S = P + T; H query heads, K key-value heads, each shared by G = H/K query
 * heads; D channels of a head.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { hostArray, valuesOnHost } from '../flatMemory.ts';
import type { Floats } from '../floats.ts';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import type { AttentionLayout } from './attentionLayout.ts';
import { softcap } from './softcap.ts';

/** Keys and values of the tokens so far, the new ones included: the first S·K·D elements of each count. In flat memory, or on the host. */
export interface CachedKeysValues {
  readonly keys: Floats;
  readonly values: Floats;
  /** S, the tokens so far. */
  readonly tokens: number;
}

interface Attributes extends CachedKeysValues {
  readonly layout: AttentionLayout;
}

/** The gate is an input tensor that not every layer has, so there are two operations. */
function cachedOperations(kind: string) {
  const declare = (name: string) => fusedOperation<Attributes>({ name, inputsToSave: [] });
  return {
    plain: declare(`Sluice${kind}CachedAttention`),
    gated: declare(`Sluice${kind}CachedGatedAttention`),
  };
}

export const CACHED_ATTENTION = cachedOperations('');
/** The same where scores are capped, which not every backend has a kernel for. */
export const CAPPED_CACHED_ATTENTION = cachedOperations('Capped');

/**
 * @param q [T, H·D] queries of the new tokens, normalised and rotated to their positions
 * @param cached keys (normalised and rotated) and values of all S tokens
 * @param gate logits of the gate, [T, H·D] (elementwise) or [T, H] (headwise); undefined for none
 * @param layout of the new tokens; its batch is 1
 * @returns [T, H·D]
 */
export function cachedAttention(
  q: tf.Tensor2D,
  cached: CachedKeysValues,
  gate: tf.Tensor2D | undefined,
  layout: AttentionLayout,
): tf.Tensor2D {
  invariant(!layout.documents, 'a cache holds one document');
  const least = cached.tokens * layout.keyValueHeads * layout.headDim;
  invariant(layout.batch === 1 && cached.tokens >= layout.sequence, 'one sequence, its new tokens cached');
  invariant(cached.keys.length >= least && cached.values.length >= least, `a cache of ${least} elements`);
  invariant(
    (layout.gate === 'none') === (gate === undefined),
    `a gate of kind ${layout.gate} and its logits`,
  );
  const operations = layout.scoreCap === undefined ? CACHED_ATTENTION : CAPPED_CACHED_ATTENTION;
  if (!hasFused(operations.plain)) return tf.tidy(() => cachedAttentionReference(q, cached, gate, layout));
  const attributes: Attributes = { ...cached, layout };
  return gate
    ? runFused(operations.gated, { q, gate }, attributes)
    : runFused(operations.plain, { q }, attributes);
}

/** The definition of `cachedAttention`. */
export function cachedAttentionReference(
  q: tf.Tensor2D,
  { keys, values, tokens }: CachedKeysValues,
  gate: tf.Tensor2D | undefined,
  { sequence, heads, keyValueHeads, headDim, scoreCap, window }: AttentionLayout,
): tf.Tensor2D {
  const group = heads / keyValueHeads;
  const perHead = (cached: Floats): tf.Tensor3D => {
    const all = tf.tensor(valuesOnHost(cached).slice(0, tokens * keyValueHeads * headDim), [
      tokens,
      keyValueHeads,
      headDim,
    ]);
    return tf.transpose(all, [1, 0, 2]) as tf.Tensor3D;
  };
  // The queries of one key-value head, head after head, as rows of one product.
  const q_TKGD = tf.reshape(q, [sequence, keyValueHeads, group, headDim]);
  const q_KRD = tf.reshape(tf.transpose(q_TKGD, [1, 2, 0, 3]), [keyValueHeads, group * sequence, headDim]);
  const scores_KRS = tf.mul(tf.matMul(q_KRD, perHead(keys), false, true), 1 / Math.sqrt(headDim));
  const mask_1RS = tf.tile(laterMask(sequence, tokens, window), [1, group, 1]);
  const weights_KRS = tf.softmax(tf.add(softcap(scores_KRS, scoreCap), mask_1RS));
  const output_KGTD = tf.reshape(tf.matMul(weights_KRS, perHead(values)), [
    keyValueHeads,
    group,
    sequence,
    headDim,
  ]);
  const output_THD = tf.reshape(tf.transpose(output_KGTD, [2, 0, 1, 3]), [sequence, heads, headDim]);
  if (!gate) return tf.reshape(output_THD, [sequence, heads * headDim]);
  const open_THG = tf.sigmoid(tf.reshape(gate, [sequence, heads, gate.size / (sequence * heads)]));
  return tf.reshape(tf.mul(output_THD, open_THG), [sequence, heads * headDim]);
}

/** [1, T, S]: 0 where the new token of the row sees the column's, −∞ elsewhere. */
function laterMask(sequence: number, tokens: number, window = Number.POSITIVE_INFINITY): tf.Tensor3D {
  const past = tokens - sequence;
  const mask = new Float32Array(sequence * tokens).fill(Number.NEGATIVE_INFINITY);
  for (let row = 0; row < sequence; row++) {
    const visible = past + row + 1;
    mask.fill(0, row * tokens + Math.max(0, visible - window), row * tokens + visible);
  }
  return tf.tensor3d(mask, [1, sequence, tokens]);
}

for (const operation of Object.values(CACHED_ATTENTION)) {
  implementFused('native', operation, {
    forward({ input, output, recording, attributes: { keys, values, tokens, layout } }) {
      invariant(!recording, 'attention to cached keys has no gradient');
      const { sequence, heads, keyValueHeads, headDim, gate, window } = layout;
      const y = output([sequence, heads * headDim]);
      callNative(
        'cachedAttention',
        input('q'),
        hostArray(keys),
        hostArray(values),
        gate === 'none' ? null : input('gate'),
        y.values,
        ...[sequence, tokens, heads, keyValueHeads, headDim],
        gate === 'headwise',
        window ?? 0,
      );
      return y.info;
    },
    backward() {
      throw new Error('Attention to cached keys has no gradient.');
    },
  });
}
