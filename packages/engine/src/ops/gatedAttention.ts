/**
 * Gated causal attention: softmax(q·kᵀ/√D)·v ⊙ sigmoid(gate) (the paper's §2.1 and §2.2, gate at position G1).
 *
 * Shapes: B sequences of T tokens, N = B·T rows; H query heads, K key-value heads, each shared by G = H/K query heads;
 * D channels of a head. Where documents are kept apart, each is computed as if it were a sequence of its own, so that its rows
 * have the same bits whatever stands before and after it. The kernel goes through the keys block by block (Dao et al., FlashAttention, 2022): it needs
 * memory in proportion to T, and keeps one number for each row of scores.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { attentionStatistics, type QueriesKeys } from '../attentionStatistics.ts';
import {
  fusedOperation,
  type GradientContext,
  hasFused,
  implementFused,
  type KernelContext,
  runFused,
} from '../fused.ts';
import { callNative, type KernelArgument } from '../native.ts';
import { whenRead } from '../reads.ts';
import { recomputed } from '../recompute.ts';
import {
  type AttentionLayout,
  documentArguments,
  documentBounds,
  documentStarts,
} from './attentionLayout.ts';
import { softcap } from './softcap.ts';

export interface AttentionAttributes {
  readonly layout: AttentionLayout;
  readonly onLargest?: OnLargestLogits | undefined;
}

/** The gate is an input tensor that not every layer has, so there are two operations. */
function attentionOperations(kind: string) {
  const declare = (name: string, inputsToSave: string[]) =>
    fusedOperation<AttentionAttributes>({ name, inputsToSave, outputsToSave: [true] });
  return {
    plain: declare(`Sluice${kind}Attention`, ['q', 'k', 'v']),
    gated: declare(`Sluice${kind}GatedAttention`, ['q', 'k', 'v', 'gate']),
  };
}

export const ATTENTION = attentionOperations('');
/** The same where scores are capped, which not every backend has a kernel for. */
export const CAPPED_ATTENTION = attentionOperations('Capped');

/** Told the largest q·k/√D of each head of each document over the tokens that queries see, [documents·H]. */
export type OnLargestLogits = (largest: Float32Array) => void;

/**
 * @param q [N, H·D] queries, normalised and rotated
 * @param k [N, K·D] keys, normalised and rotated
 * @param v [N, K·D] values
 * @param gate logits of the gate, [N, H·D] (elementwise) or [N, H] (headwise); undefined for none
 * @param onLargest called at once, or where values can only be awaited as `whenRead` does
 * @returns [N, H·D]
 */
export function gatedAttention(
  q: tf.Tensor2D,
  k: tf.Tensor2D,
  v: tf.Tensor2D,
  gate: tf.Tensor2D | undefined,
  layout: AttentionLayout,
  onLargest?: OnLargestLogits,
): tf.Tensor2D {
  invariant(
    (layout.gate === 'none') === (gate === undefined),
    `a gate of kind ${layout.gate} and its logits`,
  );
  const operations = layout.scoreCap === undefined ? ATTENTION : CAPPED_ATTENTION;
  if (!hasFused(operations.gated)) {
    if (onLargest) whenRead([q, k], (q, k) => onLargest(largestLogits({ q: q!, k: k!, layout })));
    const operands = gate ? [q, k, v, gate] : [q, k, v];
    return recomputed(operands, (...tensors) => inPlainOperations(tensors as tf.Tensor2D[], layout));
  }
  const attributes = { layout, onLargest };
  return gate
    ? runFused(operations.gated, { q, k, v, gate }, attributes)
    : runFused(operations.plain, { q, k, v }, attributes);
}

/** Where scores are capped, which kernels of `native` do not, documents are computed apart, so that each has the bits that it has alone. */
function inPlainOperations(operands: readonly tf.Tensor2D[], layout: AttentionLayout): tf.Tensor2D {
  const attend = ([q, k, v, gate]: readonly tf.Tensor2D[], layout: AttentionLayout) =>
    gatedAttentionReference(q!, k!, v!, gate, layout);
  const { scoreCap, documents } = layout;
  if (scoreCap === undefined || !documents) return attend(operands, layout);
  const bounds = documentBounds(layout);
  const parts = Array.from(documents, (begin, document) => {
    const sequence = bounds[document + 1]! - begin;
    const rows = operands.map((x) => tf.slice2d(x, [begin, 0], [sequence, -1]));
    return attend(rows, { ...layout, batch: 1, sequence, documents: undefined });
  });
  return tf.concat2d(parts, 0);
}

/** The definition of `gatedAttention`. */
export function gatedAttentionReference(
  q: tf.Tensor2D,
  k: tf.Tensor2D,
  v: tf.Tensor2D,
  gate: tf.Tensor2D | undefined,
  layout: AttentionLayout,
): tf.Tensor2D {
  const { batch, sequence, heads, keyValueHeads, headDim, scoreCap } = layout;
  const q_BHTD = tf.transpose(tf.reshape(q, [batch, sequence, heads, headDim]), [0, 2, 1, 3]);
  const repeat = (x: tf.Tensor2D): tf.Tensor4D => {
    const x_BKTD = tf.transpose(tf.reshape(x, [batch, sequence, keyValueHeads, headDim]), [0, 2, 1, 3]);
    const x_PGS = tf.tile(tf.reshape(x_BKTD, [batch * keyValueHeads, 1, sequence * headDim]), [
      1,
      heads / keyValueHeads,
      1,
    ]);
    return tf.reshape(x_PGS, [batch, heads, sequence, headDim]);
  };
  const scores_BHTT = tf.mul(tf.matMul(q_BHTD, repeat(k), false, true), 1 / Math.sqrt(headDim));
  const weights_BHTT = tf.softmax(tf.add(softcap(scores_BHTT, scoreCap), attentionMask(layout)));
  const output_BTHD = tf.transpose(tf.matMul(weights_BHTT, repeat(v)), [0, 2, 1, 3]);
  if (!gate) return tf.reshape(output_BTHD, [batch * sequence, heads * headDim]);
  const open_BTHG = tf.sigmoid(
    tf.reshape(gate, [batch, sequence, heads, gate.size / (batch * sequence * heads)]),
  );
  return tf.reshape(tf.mul(output_BTHD, open_BTHG), [batch * sequence, heads * headDim]);
}

/** [B, 1, T, T], or [1, 1, T, T] for all sequences alike: 0 where the row's token sees the column's, −∞ elsewhere. */
function attentionMask({ batch, sequence, documents, window = Infinity }: AttentionLayout): tf.Tensor4D {
  const masks = documents ? batch : 1;
  const starts = documentStarts({ batch: masks, sequence, documents });
  const mask = new Float32Array(masks * sequence * sequence).fill(Number.NEGATIVE_INFINITY);
  for (let row = 0; row < masks * sequence; row++) {
    // Columns are counted from the first token of the sequence.
    const begin = row * sequence - (row - (row % sequence));
    mask.fill(0, begin + Math.max(starts[row]!, row + 1 - window), begin + row + 1);
  }
  return tf.tensor4d(mask, [masks, 1, sequence, sequence]);
}

/** As the kernel gives them, from queries and keys. */
export function largestLogits(operands: QueriesKeys): Float32Array {
  return Float32Array.from(attentionStatistics(operands), ({ largestLogit }) => largestLogit);
}

function sizes(layout: AttentionLayout): KernelArgument[] {
  const { heads, keyValueHeads, headDim, gate, window } = layout;
  return [...documentArguments(layout), heads, keyValueHeads, headDim, gate === 'headwise', window ?? 0];
}

function forward(context: KernelContext<AttentionAttributes>): tf.TensorInfo {
  const { input, output, recording, saved } = context;
  const { layout, onLargest } = context.attributes;
  const documents = layout.documents?.length ?? layout.batch;
  const largest = onLargest ? new Float32Array(documents * layout.heads) : null;
  const y = output([layout.batch * layout.sequence, layout.heads * layout.headDim]);
  callNative(
    'gatedAttention',
    ...['q', 'k', 'v'].map(input),
    layout.gate === 'none' ? null : input('gate'),
    y.values,
    recording ? saved.floats('logSumExp', layout.batch * layout.heads * layout.sequence) : null,
    ...sizes(layout),
    largest,
  );
  if (largest) onLargest!(largest);
  return y.info;
}

/** @param tensors q, k, v, the gate if there is one, and the output */
function backward(
  { valuesOf, over, saved, attributes: { layout } }: GradientContext<AttentionAttributes>,
  [dy]: readonly tf.Tensor[],
  tensors: readonly tf.Tensor[],
): Record<string, tf.Tensor> {
  const [q, k, v] = tensors as [tf.Tensor, tf.Tensor, tf.Tensor];
  const gate = layout.gate === 'none' ? undefined : tensors[3]!;
  const y = tensors.at(-1)!;
  // The kernel has read each place for the last time when it writes there, so gradients may take their inputs' memory.
  const [dq, dk, dv] = [over(dy!), over(k), over(v)];
  const dGate = gate && over(gate);
  callNative(
    'gatedAttentionBackward',
    ...[q, k, v].map(valuesOf),
    gate ? valuesOf(gate) : null,
    ...[y, dy!].map(valuesOf),
    saved.floats('logSumExp'),
    ...[dq, dk, dv].map(({ values }) => values),
    dGate?.values ?? null,
    ...sizes(layout),
  );
  const gradients = { q: dq.tensor, k: dk.tensor, v: dv.tensor };
  return dGate ? { ...gradients, gate: dGate.tensor } : gradients;
}

for (const operation of Object.values(ATTENTION)) implementFused('native', operation, { forward, backward });
