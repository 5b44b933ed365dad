/**
 * Tokens to the rows of their experts and back, dropping none. Which row is whose lies where the tokens do, so that nobody need wait for
 * it. Shapes: N tokens, C channels, E experts, K experts a token, M = N·K rows, sorted by expert. A slot is n·K + k.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFused, runFusedMany } from '../fused.ts';
import { callNative } from '../native.ts';
import { gatherRows } from './gatherRows.ts';

export const PLAN = fusedOperation<{ readonly numExperts: number }>({
  name: 'SluicePlanDispatch',
  inputsToSave: [],
});

export const DISPATCH = fusedOperation<{ readonly topK: number }>({
  name: 'SluiceDispatchTokens',
  // The first for the sake of `rebuildable` alone.
  inputsToSave: ['x', 'order', 'position'],
  rebuildable: true,
});

export const COMBINE = fusedOperation<{ readonly topK: number }>({
  name: 'SluiceCombineTokens',
  inputsToSave: ['y', 'weights', 'order', 'position'],
});

/** Where each slot's row lies, in whole numbers. */
export interface DispatchPlan {
  readonly topK: number;
  /** [M]: the slot of each row; rows are sorted by expert, then token, then k. */
  readonly order: tf.Tensor1D;
  /** [M]: the row of each slot, the inverse of `order`. */
  readonly position: tf.Tensor1D;
  /** [E]: rows of each expert. */
  readonly counts: tf.Tensor1D;
}

/**
 * @param indices_NK the experts of each token, whole numbers below `numExperts`
 */
export function planDispatch(indices_NK: tf.Tensor2D, numExperts: number): DispatchPlan {
  const topK = indices_NK.shape[1];
  const [order, position, counts] = hasFused(PLAN)
    ? runFusedMany(PLAN, { indices: indices_NK }, { numExperts })
    : planOnHost(indices_NK.dataSync<'int32'>(), numExperts).map((values) => tf.tensor1d(values, 'int32'));
  return {
    topK,
    order: order as tf.Tensor1D,
    position: position as tf.Tensor1D,
    counts: counts as tf.Tensor1D,
  };
}

/**
 * The definition of `planDispatch`.
 * @param indices [N·K]
 * @returns order, position, and counts
 */
export function planOnHost(
  indices: Int32Array,
  numExperts: number,
): [order: Int32Array, position: Int32Array, counts: Int32Array] {
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
  return [order, position, counts];
}

/** @returns [M, C]: for each row of the plan, its token's channels */
export function dispatchTokens(x_NC: tf.Tensor2D, plan: DispatchPlan): tf.Tensor2D {
  if (!hasFused(DISPATCH)) return tf.tidy(() => dispatchTokensReference(x_NC, plan));
  const { topK, order, position } = plan;
  return runFused(DISPATCH, { x: x_NC, order, position }, { topK });
}

export function dispatchTokensReference(
  x_NC: tf.Tensor2D,
  { order, position, topK }: DispatchPlan,
): tf.Tensor2D {
  const tokens_M = order.dataSync<'int32'>().map((slot) => Math.floor(slot / topK));
  return gatherRows(x_NC, tokens_M, position.dataSync<'int32'>());
}

/** @returns [N, C] = Σ_k w_nk · y[position[n·K + k]], summed in order of k */
export function combineTokens(y_MC: tf.Tensor2D, weights_NK: tf.Tensor2D, plan: DispatchPlan): tf.Tensor2D {
  if (!hasFused(COMBINE)) return tf.tidy(() => combineTokensReference(y_MC, weights_NK, plan));
  const { topK, order, position } = plan;
  return runFused(COMBINE, { y: y_MC, weights: weights_NK, order, position }, { topK });
}

export function combineTokensReference(
  y_MC: tf.Tensor2D,
  weights_NK: tf.Tensor2D,
  { order, position, topK }: DispatchPlan,
): tf.Tensor2D {
  const rows_MC = gatherRows(y_MC, position.dataSync<'int32'>(), order.dataSync<'int32'>());
  const y_NKC = tf.reshape(rows_MC, [position.size / topK, topK, y_MC.shape[1]]);
  return tf.sum(tf.mul(y_NKC, tf.expandDims(weights_NK, 2)), 1);
}

implementFused('native', DISPATCH, {
  forward({ input, integers, shape, output, attributes: { topK } }) {
    const [tokens, width] = shape('x') as [number, number];
    const y = output([tokens * topK, width]);
    callNative('dispatchTokens', input('x'), integers('order'), y.values, tokens, topK, width);
    return y.info;
  },
  backward({ valuesOf, integersOf, tensor, attributes: { topK } }, [dy], [, , position]) {
    const [rows, width] = dy!.shape as [number, number];
    const dx = tensor([rows / topK, width]);
    const arrays = [valuesOf(dy!), null, integersOf(position!), dx.values];
    callNative('combineTokens', ...arrays, rows / topK, topK, width);
    return { x: dx.tensor };
  },
});

implementFused('native', COMBINE, {
  forward({ input, integers, shape, output, attributes: { topK } }) {
    const [rows, width] = shape('y') as [number, number];
    const out = output([rows / topK, width]);
    const arrays = [input('y'), input('weights'), integers('position'), out.values];
    callNative('combineTokens', ...arrays, rows / topK, topK, width);
    return out.info;
  },
  backward({ valuesOf, integersOf, tensor, over, attributes: { topK } }, [dOut], [y, weights, order]) {
    const [rows, width] = y!.shape as [number, number];
    const values = valuesOf(y!);
    const dy = over(y!);
    const dWeights = tensor([rows / topK, topK]);
    const arrays = [
      values,
      valuesOf(weights!),
      integersOf(order!),
      valuesOf(dOut!),
      dy.values,
      dWeights.values,
    ];
    callNative('combineTokensBackward', ...arrays, rows / topK, topK, width);
    return { y: dy.tensor, weights: dWeights.tensor };
  },
});
