/**
 * The router of a mixture of experts (paper §3.1): softmax over all experts, the top k of them, and what keeps their loads
 * even (global-batch balance loss) and their logits small (z-loss). Shapes: N tokens, C channels, E experts, K experts a token.
 */

import * as tf from '@tensorflow/tfjs';
import { hasFused, registerFused, runFusedMany } from '../fused.ts';
import { callNative } from '../native.ts';
import type { Parameter } from '../parameter.ts';
import { linear } from './linear.ts';

const KERNEL = 'SluiceRouter';

export interface RoutingOptions {
  readonly topK: number;
  /** Whether the weights of the chosen experts are divided by their sum. */
  readonly normalizeTopK: boolean;
  readonly balanceCoefficient: number;
  readonly zCoefficient: number;
  /** [E]: share of the routed slots that each expert had in the reference batch; sums to 1. */
  readonly loads: Float32Array;
  /** Tokens of the whole global batch, of which the auxiliary loss is a mean. */
  readonly totalTokens: number;
}

export interface Routing {
  /** [N, K]: weights of the chosen experts, largest first. */
  readonly weights_NK: tf.Tensor2D;
  /** [N·K]: the chosen experts. */
  readonly indices: Int32Array;
  /** [E]: tokens of each expert. */
  readonly counts: Int32Array;
  /** 1/totalTokens · Σ_n (balance · E · Σ_e loads_e · p_ne + z · logsumexp_n²). */
  readonly auxiliaryLoss: tf.Scalar;
}

/**
 * Sends each token to the `topK` experts of the largest logits x · routerᵀ, of equal ones the lower index first.
 * @param router [E, C]
 */
export function routeExperts(x_NC: tf.Tensor2D, router: Parameter, options: RoutingOptions): Routing {
  const { topK, loads } = options;
  const logits_NE = linear(x_NC, router);
  if (!hasFused(KERNEL)) return routeReference(logits_NE, options);
  const indices = new Int32Array(x_NC.shape[0] * topK);
  const counts = new Int32Array(loads.length);
  const attributes: RouterAttributes = { ...options, indices, counts };
  const [weights_NK, auxiliaryLoss] = runFusedMany(KERNEL, { logits: logits_NE }, attributes);
  logits_NE.dispose();
  return {
    weights_NK: weights_NK as tf.Tensor2D,
    indices,
    counts,
    auxiliaryLoss: auxiliaryLoss as tf.Scalar,
  };
}

/** The router from its logits on. */
export function routeReference(logits_NE: tf.Tensor2D, options: RoutingOptions): Routing {
  const { topK, normalizeTopK, loads } = options;
  const numExperts = loads.length;
  // Read out, since the choice has no gradient.
  const chosen = tf.topk(logits_NE, topK);
  const indices = chosen.indices.dataSync<'int32'>().slice();
  tf.dispose([chosen.values, chosen.indices]);
  const counts = new Int32Array(numExperts);
  for (const expert of indices) counts[expert]!++;
  const [weights_NK, auxiliaryLoss] = tf.tidy(() => {
    const p_NE = tf.softmax(logits_NE);
    const chosen_NKE = tf.oneHot(tf.tensor2d(indices, [logits_NE.shape[0], topK], 'int32'), numExperts);
    const chosen_NK = tf.sum(tf.mul(tf.expandDims(p_NE, 1), chosen_NKE), 2) as tf.Tensor2D;
    const weights_NK = normalizeTopK ? tf.div(chosen_NK, tf.sum(chosen_NK, 1, true)) : chosen_NK;
    return [weights_NK, auxiliaryLossReference(logits_NE, p_NE, options)] as [tf.Tensor2D, tf.Scalar];
  });
  return { weights_NK, indices, counts, auxiliaryLoss };
}

/** @param p_NE the softmax of the logits */
export function auxiliaryLossReference(
  logits_NE: tf.Tensor2D,
  p_NE: tf.Tensor2D,
  { balanceCoefficient, zCoefficient, loads, totalTokens }: RoutingOptions,
): tf.Scalar {
  const balance = tf.mul(tf.sum(tf.mul(p_NE, tf.tensor1d(loads))), balanceCoefficient * loads.length);
  const z = tf.mul(tf.sum(tf.square(tf.logSumExp(logits_NE, 1))), zCoefficient);
  return tf.div(tf.add(balance, z), totalTokens);
}

interface RouterAttributes extends RoutingOptions {
  readonly indices: Int32Array;
  readonly counts: Int32Array;
}

registerFused<RouterAttributes>({
  name: KERNEL,
  inputsToSave: ['logits'],
  forward({ floats, shape, output, attributes }) {
    const [tokens, experts] = shape('logits') as [number, number];
    const { topK, normalizeTopK, balanceCoefficient, zCoefficient, loads, totalTokens } = attributes;
    const weights = output([tokens, topK]);
    const auxiliary = output([]);
    const arrays = [floats('logits'), loads, weights.values, attributes.indices, attributes.counts];
    const scales = [balanceCoefficient * experts, zCoefficient];
    const sum = callNative('router', ...arrays, tokens, experts, topK, normalizeTopK, ...scales);
    auxiliary.values[0] = sum / totalTokens;
    return [weights.info, auxiliary.info];
  },
  backward({ valuesOf, over, attributes }, [dWeights, dAuxiliary], [logits]) {
    const [tokens, experts] = logits!.shape as [number, number];
    const { topK, normalizeTopK, balanceCoefficient, zCoefficient, loads, totalTokens } = attributes;
    const scale = valuesOf(dAuxiliary!)[0]! / totalTokens;
    const values = valuesOf(logits!);
    const dLogits = over(logits!);
    const arrays = [values, loads, attributes.indices, valuesOf(dWeights!), dLogits.values];
    const scales = [balanceCoefficient * experts * scale, zCoefficient * scale];
    callNative('routerBackward', ...arrays, tokens, experts, topK, normalizeTopK, ...scales);
    return { logits: dLogits.tensor };
  },
});
