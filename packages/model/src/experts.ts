/**
 * The mixture-of-experts feed-forward layer (paper §3.1): softmax router, top-k, no token dropped. Tokens go to the
 * workers that hold their experts and come back.
 *
 * Shapes: N tokens, C hidden, E experts, K experts a token, M = N·K routed tokens.
 */

import {
  addResidual,
  combineTokens,
  dispatchTokens,
  type ExpertSegment,
  exchangeRows,
  expertFeedForward,
  forgetUntilGradient,
  gatedFeedForward,
  type Parameter,
  planDispatch,
  routeExperts,
} from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import type { ExpertsConfig } from './config.ts';
import type { ExpertExchange } from './exchange.ts';

export interface ExpertWeights {
  readonly router: Parameter;
  readonly gateUp: Parameter;
  readonly down: Parameter;
  readonly shared?: { readonly gateUp: Parameter; readonly down: Parameter };
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

export interface ExpertOutput {
  readonly y_NC: tf.Tensor2D;
  readonly auxiliaryLoss: tf.Scalar;
  /** Tokens that each expert got, of those in `x`. */
  readonly counts: Int32Array;
}

export function expertLayer(
  x_NC: tf.Tensor2D,
  weights: ExpertWeights,
  config: ExpertsConfig,
  balance: BalanceContext,
  exchange: ExpertExchange,
): ExpertOutput {
  const { weights_NK, indices, counts, auxiliaryLoss } = routeExperts(x_NC, weights.router, {
    ...config,
    ...balance,
  });
  const plan = planDispatch(indices, config.topK, config.count);
  const routed_MC = dispatchTokens(x_NC, plan);
  const expertOutput_MC = atExperts(routed_MC, counts, weights, exchange);
  forgetUntilGradient(routed_MC);
  const combined_NC = combineTokens(expertOutput_MC, weights_NK, plan);
  if (!weights.shared) return { y_NC: combined_NC, auxiliaryLoss, counts };
  const shared_NC = gatedFeedForward(x_NC, weights.shared.gateUp, weights.shared.down);
  return { y_NC: addResidual(combined_NC, shared_NC), auxiliaryLoss, counts };
}

/** Rows, sorted by expert, through their experts, wherever these are. */
function atExperts(
  routed_MC: tf.Tensor2D,
  counts: Int32Array,
  { gateUp, down }: ExpertWeights,
  exchange: ExpertExchange,
): tf.Tensor2D {
  const { size } = exchange;
  const received = exchange.exchangeCounts(counts);
  const segments = expertSegments(received, size);
  if (size === 1) return expertFeedForward(routed_MC, segments, gateUp, down, 1);

  const rowsToPeer = sumParts(counts, size);
  const rowsFromPeer = sumParts(received, size);
  const send = exchange.exchangeRows.bind(exchange);
  const here = exchangeRows(routed_MC, { exchange: send, rowsToPeer, rowsFromPeer });
  const output = expertFeedForward(here, segments, gateUp, down, size);
  return exchangeRows(output, { exchange: send, rowsToPeer: rowsFromPeer, rowsFromPeer: rowsToPeer });
}

/** One segment for each (peer, own expert), in the order in which the rows lie. */
function expertSegments(received: Int32Array, peers: number): ExpertSegment[] {
  const experts = received.length / peers;
  let begin = 0;
  return Array.from(received, (count, i) => {
    const segment = { source: Math.floor(i / experts), expert: i % experts, begin, count };
    begin += count;
    return segment;
  });
}

function sumParts(counts: Int32Array, parts: number): number[] {
  const length = counts.length / parts;
  return Array.from({ length: parts }, (_, part) =>
    counts.subarray(part * length, (part + 1) * length).reduce((sum, count) => sum + count, 0),
  );
}
