/**
 * Tokens to the rows of their experts and back, dropping none. Shapes: N tokens, C channels, E experts, K experts a token,
 * M = N·K rows, sorted by expert. A slot is n·K + k.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import { gatherRows } from './gatherRows.ts';

export const DISPATCH = fusedOperation<DispatchPlan>({
  name: 'SluiceDispatchTokens',
  // For the sake of `rebuildable` alone.
  inputsToSave: ['x'],
  rebuildable: true,
});

export const COMBINE = fusedOperation<DispatchPlan>({
  name: 'SluiceCombineTokens',
  inputsToSave: ['y', 'weights'],
});

/** Where each slot's row lies. */
export interface DispatchPlan {
  readonly topK: number;
  /** [M]: the slot of each row; rows are sorted by expert, then token, then k. */
  readonly order: Int32Array;
  /** [M]: the row of each slot, the inverse of `order`. */
  readonly position: Int32Array;
  /** [E]: rows of each expert. */
  readonly counts: Int32Array;
}

/**
 * @param indices the experts of each token, [N·K], each below `numExperts`
 */
export function planDispatch(indices: Int32Array, topK: number, numExperts: number): DispatchPlan {
  const counts = new Int32Array(numExperts);
  for (const expert of indices) {
    invariant(expert >= 0 && expert < numExperts, `expert ${expert} is not below ${numExperts}`);
    counts[expert]!++;
  }
  const next = new Int32Array(numExperts);
  for (let expert = 1; expert < numExperts; expert++) next[expert] = next[expert - 1]! + counts[expert - 1]!;
  const order = new Int32Array(indices.length);
  const position = new Int32Array(indices.length);
  for (let slot = 0; slot < indices.length; slot++) {
    const row = next[indices[slot]!]!++;
    order[row] = slot;
    position[slot] = row;
  }
  return { topK, order, position, counts };
}

/** @returns [M, C]: for each row of the plan, its token's channels */
export function dispatchTokens(x_NC: tf.Tensor2D, plan: DispatchPlan): tf.Tensor2D {
  if (!hasFused(DISPATCH)) return tf.tidy(() => dispatchTokensReference(x_NC, plan));
  return runFused(DISPATCH, { x: x_NC }, plan);
}

export function dispatchTokensReference(
  x_NC: tf.Tensor2D,
  { order, position, topK }: DispatchPlan,
): tf.Tensor2D {
  const tokens_M = order.map((slot) => Math.floor(slot / topK));
  return gatherRows(x_NC, tokens_M, position);
}

/** @returns [N, C] = Σ_k w_nk · y[position[n·K + k]], summed in order of k */
export function combineTokens(y_MC: tf.Tensor2D, weights_NK: tf.Tensor2D, plan: DispatchPlan): tf.Tensor2D {
  if (!hasFused(COMBINE)) return tf.tidy(() => combineTokensReference(y_MC, weights_NK, plan));
  return runFused(COMBINE, { y: y_MC, weights: weights_NK }, plan);
}

export function combineTokensReference(
  y_MC: tf.Tensor2D,
  weights_NK: tf.Tensor2D,
  { order, position, topK }: DispatchPlan,
): tf.Tensor2D {
  const rows_MC = gatherRows(y_MC, position, order);
  const y_NKC = tf.reshape(rows_MC, [position.length / topK, topK, y_MC.shape[1]]);
  return tf.sum(tf.mul(y_NKC, tf.expandDims(weights_NK, 2)), 1);
}

implementFused('native', DISPATCH, {
  forward({ input, shape, output, attributes: { order, topK } }) {
    const [tokens, width] = shape('x') as [number, number];
    const y = output([order.length, width]);
    callNative('dispatchTokens', input('x'), order, y.values, tokens, topK, width);
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: { position, topK } }, [dy]) {
    const [rows, width] = dy!.shape as [number, number];
    const dx = tensor([rows / topK, width]);
    callNative('combineTokens', valuesOf(dy!), null, position, dx.values, rows / topK, topK, width);
    return { x: dx.tensor };
  },
});

implementFused('native', COMBINE, {
  forward({ input, shape, output, attributes: { position, topK } }) {
    const [rows, width] = shape('y') as [number, number];
    const out = output([rows / topK, width]);
    callNative('combineTokens', input('y'), input('weights'), position, out.values, rows / topK, topK, width);
    return out.info;
  },
  backward({ valuesOf, tensor, over, attributes: { order, topK } }, [dOut], [y, weights]) {
    const [rows, width] = y!.shape as [number, number];
    const values = valuesOf(y!);
    const dy = over(y!);
    const dWeights = tensor([rows / topK, topK]);
    const arrays = [values, valuesOf(weights!), order, valuesOf(dOut!), dy.values, dWeights.values];
    callNative('combineTokensBackward', ...arrays, rows / topK, topK, width);
    return { y: dy.tensor, weights: dWeights.tensor };
  },
});
