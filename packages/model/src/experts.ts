/**
 * The mixture-of-experts feed-forward layer (paper §3.1): router, top-k, no token dropped. Tokens go to the
 * workers that hold their experts and come back; where the backend does not tell which tokens these are, every expert
 * computes every token.
 *
 * Shapes: N tokens, C hidden, E experts, K experts a token, M = N·K routed tokens.
 */

import { invariant } from '@sluice/core';
import {
  addResidual,
  combineTokens,
  countedFeedForward,
  type DispatchPlan,
  dispatchTokens,
  type ExchangedExperts,
  everyExpert,
  exchangedExperts,
  forgetUntilGradient,
  gatedFeedForward,
  gateHeads,
  linear,
  type Parameter,
  planDispatch,
  type RoutingOptions,
  readsSynchronously,
  routeExperts,
  weighExperts,
} from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import type { ExpertsConfig } from './config.ts';
import type { ExpertExchange } from './exchange.ts';
import type { LayerModel } from './layers.ts';

export interface ExpertWeights {
  readonly router: Parameter;
  /** [E]: what balances the choice of experts. */
  readonly bias?: Parameter | undefined;
  readonly gateUp: Parameter;
  readonly down: Parameter;
  readonly shared?: {
    readonly gateUp: Parameter;
    readonly down: Parameter;
    /** [1, C]: how much of it each token gets, by a sigmoid; all when left out. */
    readonly gate?: Parameter | undefined;
  };
}

/** What the balance loss and the z-loss of a step are measured by. */
export interface BalanceContext {
  /**
   * Share of the routed tokens that each expert got in the global batch of the step before (1/E at the first step). The
   * loss of the step itself would need every worker's counts before any gradient; lagged by a step, it is the same for any
   * number of workers and needs no message.
   */
  readonly loads: Float32Array;
  /** Tokens of the whole global batch, by which sums over tokens are divided. */
  readonly totalTokens: number;
}

/** Of the factors of hidden units; none where they are left out. */
export type SwigluLimits = Pick<LayerModel, 'swigluLimit' | 'sharedSwigluLimit'>;

export interface ExpertOutput {
  readonly y_NC: tf.Tensor2D;
  readonly auxiliaryLoss: tf.Scalar;
  /** [E]: tokens that each expert got, of those in `x`, as whole numbers or floats. */
  readonly counts_E: tf.Tensor1D;
}

/** Where values can only be awaited (`readsSynchronously`), one worker must hold all the experts. */
export function expertLayer(
  x_NC: tf.Tensor2D,
  weights: ExpertWeights,
  config: ExpertsConfig,
  limits: SwigluLimits,
  balance: BalanceContext,
  exchange: ExpertExchange,
): ExpertOutput {
  const options = { ...config, ...balance, bias: weights.bias };
  const { shared } = weights;
  let ofShared: tf.Tensor2D | undefined;
  const computeShared = () => {
    if (shared) ofShared ??= sharedExpert(x_NC, shared, limits);
  };
  const output = readsSynchronously()
    ? chosenExperts(x_NC, weights, limits, options, exchange, computeShared)
    : allExperts(x_NC, weights, limits, options, exchange);
  computeShared();
  return ofShared ? { ...output, y_NC: addResidual(output.y_NC, ofShared) } : output;
}

function sharedExpert(
  x_NC: tf.Tensor2D,
  { gateUp, down, gate }: NonNullable<ExpertWeights['shared']>,
  { sharedSwigluLimit }: SwigluLimits,
): tf.Tensor2D {
  const y_NC = gatedFeedForward(x_NC, gateUp, down, sharedSwigluLimit);
  if (!gate) return y_NC;
  const layout = { heads: 1, channels: x_NC.shape[1], activation: 'sigmoid', isShared: false } as const;
  return gateHeads(y_NC, linear(x_NC, gate), layout);
}

/** @param meanwhile computes what does not depend on other workers, while these are waited for */
function chosenExperts(
  x_NC: tf.Tensor2D,
  weights: ExpertWeights,
  limits: SwigluLimits,
  options: RoutingOptions,
  exchange: ExpertExchange,
  meanwhile: () => void,
): ExpertOutput {
  const { weights_NK, indices_NK, auxiliaryLoss } = routeExperts(x_NC, weights.router, options);
  const plan = planDispatch(indices_NK, options.loads.length);
  const travel = exchange.size > 1 ? startTravel(plan, exchange) : undefined;
  const routed_MC = dispatchTokens(x_NC, plan);
  // The uses of x keep their order, in which its gradient is added up: after the rows that are dispatched comes the shared expert. A host has
  // time for it while numbers of rows travel; devices that are linked, while rows come back.
  if (travel && !travel.startOnDevice) meanwhile();
  const expertOutput_MC = atExperts(routed_MC, plan, travel, weights, limits);
  forgetUntilGradient(routed_MC);
  if (travel) meanwhile();
  return { y_NC: combineTokens(expertOutput_MC, weights_NK, plan), auxiliaryLoss, counts_E: plan.counts };
}

type Travel = Omit<ExchangedExperts, 'gateUp' | 'down' | 'limit'>;

/** Tells peers how many rows they will get, which the host must know for it. */
function startTravel(plan: DispatchPlan, exchange: ExpertExchange): Travel {
  const { rank, size, startRows, startOnDevice } = exchange;
  const counts = plan.counts.dataSync<'int32'>();
  const received = exchange.startCounts(counts);
  return { rank, peers: size, counts, received, start: startRows, startOnDevice };
}

function allExperts(
  x_NC: tf.Tensor2D,
  { router, gateUp, down }: ExpertWeights,
  { swigluLimit }: SwigluLimits,
  options: RoutingOptions,
  { size }: ExpertExchange,
): ExpertOutput {
  invariant(size === 1, `experts are shared among ${size} workers, and which rows go where cannot be read`);
  const { weights_NE, counts_E, auxiliaryLoss } = weighExperts(x_NC, router, options);
  return { y_NC: everyExpert(x_NC, weights_NE, gateUp, down, swigluLimit), auxiliaryLoss, counts_E };
}

/**
 * Rows, sorted by expert, through their experts, wherever these are.
 * @param travel to peers; undefined where nobody else holds experts
 */
function atExperts(
  routed_MC: tf.Tensor2D,
  plan: DispatchPlan,
  travel: Travel | undefined,
  { gateUp, down }: ExpertWeights,
  { swigluLimit: limit }: SwigluLimits,
): tf.Tensor2D {
  if (travel) return exchangedExperts(routed_MC, { ...travel, gateUp, down, limit });
  return countedFeedForward(routed_MC, plan.counts, gateUp, down, limit);
}
