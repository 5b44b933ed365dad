/**
 * The router of a mixture of experts (paper §3.1): scores of all experts, the top k of them, and what keeps their loads even
 * (global-batch balance loss; a bias of the choice) and their logits small (z-loss).
 *
 * Scores are the softmax of the logits, or the sigmoid of each (DeepSeek-V3, arXiv 2412.19437 §2.1.2). Shapes: N tokens,
 * C channels, E experts, K experts a token.
 */

import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFusedMany } from '../fused.ts';
import { callNative } from '../native.ts';
import type { Parameter } from '../parameter.ts';
import { withoutGradient } from '../tape.ts';
import { largestOfRow } from './largestOfRow.ts';
import { linear } from './linear.ts';
import { softcap } from './softcap.ts';

/** Gives weights, the auxiliary loss, and the chosen experts. */
export const ROUTER = fusedOperation<RoutingOptions>({
  name: 'SluiceRouter',
  inputsToSave: ['logits'],
  outputsToSave: [false, false, true],
});

export interface ExpertGroups {
  /** A divisor of the experts. */
  readonly count: number;
  /** How many of them a token may have experts of: those with the largest sums of their two largest scores with bias. */
  readonly topK: number;
}

export interface RoutingOptions {
  readonly topK: number;
  /** What the logits become scores by; softmax when left out. */
  readonly router?: 'softmax' | 'sigmoid';
  /** [E]: added to the scores where experts are chosen, and nowhere else; it has no gradient (arXiv 2408.15664). */
  readonly bias?: Parameter | undefined;
  /** Equal groups of neighbouring experts, of which a token's experts are in the best ones only (DeepSeek-V3 §2.1.2). */
  readonly groups?: ExpertGroups | undefined;
  /** Soft cap of the logits; none when left out. */
  readonly logitCap?: number | undefined;
  /** Factor of the weights; 1 when left out. */
  readonly scalingFactor?: number;
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
  /** [N, K]: weights of the chosen experts, in the order of the choice. */
  readonly weights_NK: tf.Tensor2D;
  /** [N, K]: the chosen experts, whole numbers. */
  readonly indices_NK: tf.Tensor2D;
  /**
   * 1/totalTokens · Σ_n (balance · E · Σ_e loads_e · p_ne + z · logsumexp_n²), where p are the softmax's scores, or the sigmoids
   * divided by their sum.
   */
  readonly auxiliaryLoss: tf.Scalar;
}

/**
 * Sends each token to the `topK` experts of the largest logits x · routerᵀ, or with a bias or groups of the largest sums of score
 * and bias; of equal ones the lower index comes first.
 * @param router [E, C]
 */
export function routeExperts(x_NC: tf.Tensor2D, router: Parameter, options: RoutingOptions): Routing {
  const logits_NE = routerLogits(x_NC, router, options);
  if (!hasFused(ROUTER)) return routeReference(logits_NE, options);
  const [weights, auxiliaryLoss, indices] = runFusedMany(ROUTER, { logits: logits_NE }, options);
  logits_NE.dispose();
  return {
    weights_NK: weights as tf.Tensor2D,
    indices_NK: indices as tf.Tensor2D,
    auxiliaryLoss: auxiliaryLoss as tf.Scalar,
  };
}

/** [N, E]: what a router makes of its input. @param router [E, C] */
export function routerLogits(
  x_NC: tf.Tensor2D,
  router: Parameter,
  { logitCap }: Pick<RoutingOptions, 'logitCap'>,
): tf.Tensor2D {
  return softcap(linear(x_NC, router, 'single'), logitCap);
}

/** Keeps sums of sigmoids from being zero, as in DeepSeek-V3. */
const TINY = 1e-20;

/** What the experts are to each token. */
export interface ExpertScores {
  /** [N, E]: what the weights of chosen experts are made of. */
  readonly score_NE: tf.Tensor2D;
  /** [N, E]: the same, as shares of 1: what the balance loss looks at. */
  readonly share_NE: tf.Tensor2D;
}

export function expertScores(logits_NE: tf.Tensor2D, { router }: RoutingOptions): ExpertScores {
  if (router !== 'sigmoid') {
    const p_NE = tf.softmax(logits_NE);
    return { score_NE: p_NE, share_NE: p_NE };
  }
  const score_NE = tf.sigmoid(logits_NE);
  return { score_NE, share_NE: tf.div(score_NE, tf.add(tf.sum(score_NE, 1, true), TINY)) };
}

/** [N, E]: the numbers by whose size experts are chosen. */
export function choiceKeys(logits_NE: tf.Tensor2D, options: RoutingOptions): tf.Tensor2D {
  return withoutGradient(() => {
    const { bias, groups } = options;
    if (!bias && !groups) return logits_NE.clone();
    const { score_NE } = expertScores(logits_NE, options);
    const keys_NE = bias ? tf.add<tf.Tensor2D>(score_NE, bias.tensor) : score_NE;
    return groups ? keysOfBestGroups(keys_NE, groups) : keys_NE;
  });
}

/** The keys of experts in the chosen groups, and −∞ in place of the others. */
function keysOfBestGroups(keys_NE: tf.Tensor2D, { count, topK }: ExpertGroups): tf.Tensor2D {
  const [tokens, experts] = keys_NE.shape;
  const size = experts / count;
  const groups_MS = tf.reshape(keys_NE, [tokens * count, size]) as tf.Tensor2D;
  const best_MS = largestOfRow(groups_MS, Math.min(2, size));
  const rank_NG = tf.reshape(tf.sum(tf.mul(groups_MS, best_MS), 1), [tokens, count]) as tf.Tensor2D;
  const chosen_NG1 = tf.expandDims(largestOfRow(rank_NG, topK), 2);
  const chosen_NE = tf.reshape(tf.tile(chosen_NG1, [1, 1, size]), [tokens, experts]);
  return tf.where(tf.greater(chosen_NE, 0), keys_NE, Number.NEGATIVE_INFINITY);
}

/** Weights from the scores of chosen experts, which may have zeros among them for others. */
export function weightsOf<Rank extends tf.Rank>(
  chosen: tf.Tensor<Rank>,
  { normalizeTopK, router, scalingFactor = 1 }: RoutingOptions,
): tf.Tensor<Rank> {
  const scaled = (weights: tf.Tensor<Rank>): tf.Tensor<Rank> =>
    scalingFactor === 1 ? weights : tf.mul(weights, scalingFactor);
  if (!normalizeTopK) return scaled(chosen);
  const sum = tf.sum(chosen, 1, true);
  return scaled(tf.div(chosen, router === 'sigmoid' ? tf.add(sum, TINY) : sum));
}

/** The router from its logits on. */
export function routeReference(logits_NE: tf.Tensor2D, options: RoutingOptions): Routing {
  const { topK, loads } = options;
  const numExperts = loads.length;
  const indices_NK = withoutGradient(() => tf.topk(choiceKeys(logits_NE, options), topK).indices);
  const [weights_NK, auxiliaryLoss] = tf.tidy(() => {
    const scores = expertScores(logits_NE, options);
    const chosen_NKE = tf.oneHot(indices_NK, numExperts);
    const chosen_NK = tf.sum(tf.mul(tf.expandDims(scores.score_NE, 1), chosen_NKE), 2) as tf.Tensor2D;
    const weights_NK = weightsOf(chosen_NK, options);
    return [weights_NK, auxiliaryLossReference(logits_NE, scores, options)] as [tf.Tensor2D, tf.Scalar];
  });
  return { weights_NK, indices_NK, auxiliaryLoss };
}

export function auxiliaryLossReference(
  logits_NE: tf.Tensor2D,
  { share_NE }: ExpertScores,
  { balanceCoefficient, zCoefficient, loads, totalTokens }: RoutingOptions,
): tf.Scalar {
  const balance = tf.mul(tf.sum(tf.mul(share_NE, tf.tensor1d(loads))), balanceCoefficient * loads.length);
  const z = tf.mul(tf.sum(tf.square(tf.logSumExp(logits_NE, 1))), zCoefficient);
  return tf.div(tf.add(balance, z), totalTokens);
}

implementFused('native', ROUTER, {
  forward({ input, shape, output, outputIntegers, attributes }) {
    const [tokens, experts] = shape('logits') as [number, number];
    const { topK, normalizeTopK, balanceCoefficient, zCoefficient, loads, totalTokens, bias } = attributes;
    const { groups = { count: 1, topK: 1 } } = attributes;
    const weights = output([tokens, topK]);
    const auxiliary = output([]);
    const indices = outputIntegers([tokens, topK]);
    const arrays = [input('logits'), loads, weights.values, indices.values];
    const scales = [balanceCoefficient * experts, zCoefficient];
    const sizes = [tokens, experts, topK];
    const sum = callNative(
      'router',
      ...arrays,
      ...sizes,
      normalizeTopK,
      ...scales,
      ...kindOf(attributes),
      bias?.hostValues ?? null,
      groups.count,
      groups.topK,
    );
    auxiliary.values[0] = sum / totalTokens;
    return [weights.info, auxiliary.info, indices.info];
  },
  backward({ valuesOf, integersOf, over, attributes }, [dWeights, dAuxiliary], [logits, indices]) {
    const [tokens, experts] = logits!.shape as [number, number];
    const { topK, normalizeTopK, balanceCoefficient, zCoefficient, loads, totalTokens } = attributes;
    const scale = valuesOf(dAuxiliary!)[0]! / totalTokens;
    const values = valuesOf(logits!);
    const dLogits = over(logits!);
    const arrays = [values, loads, integersOf(indices!), valuesOf(dWeights!), dLogits.values];
    const scales = [balanceCoefficient * experts * scale, zCoefficient * scale];
    const sizes = [tokens, experts, topK];
    callNative('routerBackward', ...arrays, ...sizes, normalizeTopK, ...scales, ...kindOf(attributes));
    return { logits: dLogits.tensor };
  },
});

/** Whether scores are sigmoids, and the factor of the weights. */
function kindOf({ router, scalingFactor = 1 }: RoutingOptions): [boolean, number] {
  return [router === 'sigmoid', scalingFactor];
}
