/**
 * A mixture of experts for backends that give no values in the middle of a pass, so that nobody can sort tokens by expert:
 * every expert computes every token, and what a token's router did not choose has the weight 0. It costs E/K times the
 * arithmetic of the experts. Shapes: N tokens, C channels, E experts, K of them a token, I hidden units of an expert.
 */

import * as tf from '@tensorflow/tfjs';
import type { Parameter } from '../parameter.ts';
import { recomputed } from '../recompute.ts';
import { hiddenUnits } from './gatedFeedForward.ts';
import { largestOfRow } from './largestOfRow.ts';
import {
  auxiliaryLossReference,
  choiceKeys,
  expertScores,
  type RoutingOptions,
  routerLogits,
  weightsOf,
} from './routeExperts.ts';

/** As `Routing`, but for every expert. */
export interface Weighing {
  /** [N, E]: weights of the chosen experts, zeros elsewhere. */
  readonly weights_NE: tf.Tensor2D;
  /** [E]: tokens that chose each expert. */
  readonly counts_E: tf.Tensor1D;
  readonly auxiliaryLoss: tf.Scalar;
}

/**
 * What `routeExperts` computes, as weights of all experts.
 * @param router [E, C]
 */
export function weighExperts(x_NC: tf.Tensor2D, router: Parameter, options: RoutingOptions): Weighing {
  return tf.tidy(() => {
    const logits_NE = routerLogits(x_NC, router, options);
    const chosen_NE = largestOfRow(choiceKeys(logits_NE, options), options.topK);
    const scores = expertScores(logits_NE, options);
    return {
      weights_NE: weightsOf(tf.mul(scores.score_NE, chosen_NE) as tf.Tensor2D, options),
      counts_E: tf.sum(chosen_NE, 0) as tf.Tensor1D,
      auxiliaryLoss: auxiliaryLossReference(logits_NE, scores, options),
    };
  });
}

/**
 * Σ_e w_ne · down_e(silu(gate_e x_n) ⊙ up_e x_n): one feed-forward layer of E·I hidden units.
 * @param weights_NE what each expert's output counts for each token
 * @param gateUp shape [E, 2I, C]: for each expert the gate's rows, then those of `up`
 * @param down shape [E, C, I]
 * @param limit of the hidden units' two factors, as `gatedFeedForward` has it; none when left out
 * @returns [N, C]
 */
export function everyExpert(
  x_NC: tf.Tensor2D,
  weights_NE: tf.Tensor2D,
  gateUp: Parameter,
  down: Parameter,
  limit?: number,
): tf.Tensor2D {
  const [experts, channels, units] = down.shape as [number, number, number];
  return recomputed([x_NC, weights_NE], (x, weights) => {
    const gateUp_GC = tf.reshape(gateUp.onTape(), [experts * 2 * units, channels]);
    const products_NG = tf.matMul(x as tf.Tensor2D, gateUp_GC, false, true);
    const [gate, up] = tf.split(tf.reshape(products_NG, [-1, experts, 2 * units]), 2, 2);
    const hidden_NEI = hiddenUnits(gate!, up!, limit);
    const weighed_NEI = tf.mul(hidden_NEI, tf.expandDims(weights, 2));
    const down_HC = tf.reshape(tf.transpose(down.onTape(), [0, 2, 1]), [experts * units, channels]);
    return tf.matMul(tf.reshape(weighed_NEI, [-1, experts * units]), down_HC) as tf.Tensor2D;
  });
}
