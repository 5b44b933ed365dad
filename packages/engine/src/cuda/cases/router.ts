/** The router of a mixture of experts, from its logits on. N: tokens; E: experts; K of them a token. */

import type { RoutingOptions } from '../../ops/routeExperts.ts';
import { routeTokens, routeTokensBackward } from '../routing.ts';
import {
  type DeviceMemory,
  floatsOf,
  judged,
  type KernelCase,
  outputsOf,
  randomArray,
  sigmoid,
} from './case.ts';

export interface RouterSizes {
  readonly tokens: number;
  readonly experts: number;
  readonly topK: number;
  readonly router?: 'softmax' | 'sigmoid';
}

/** Weights of the chosen that are divided by their sum, with both auxiliary losses; or the gradient of the logits. */
export function routerCase(on: DeviceMemory, sizes: RouterSizes, isBackward: boolean): KernelCase {
  const { tokens, experts, topK, router = 'softmax' } = sizes;
  const loads = Float32Array.from({ length: experts }, (_, e) => (1 + (e % 3)) / (2 * experts));
  const options: RoutingOptions = {
    ...{ topK, router, loads, normalizeTopK: true },
    ...{ balanceCoefficient: 0.5, zCoefficient: 0.3, totalTokens: 2 * tokens },
  };
  const logits = randomArray(on, 1, tokens * experts, 'f32', 2);
  const chosen = () => randomArray(on, 2, tokens * topK, 'f32');
  const [weights, dWeights, dLogits] = [chosen(), chosen(), on.allocate(tokens * experts, 'f32')];
  const indices = on.allocate(tokens * topK, 'i32');
  const [auxiliary, dAuxiliary] = [on.allocate(1, 'f32'), on.upload(Float32Array.of(0.7), 'f32')];
  const operands = { logits, options };
  const forward = () => routeTokens(operands, { weights, indices, auxiliary });
  // What the way back needs.
  if (isBackward) forward();
  return {
    run() {
      if (isBackward) routeTokensBackward(operands, { indices, dWeights, dAuxiliary }, dLogits);
      else forward();
    },
    outputs: () => outputsOf(isBackward ? { dLogits } : { weights, indices, auxiliary }),
    bytes: 4 * (isBackward ? 2 * tokens * experts : tokens * experts + 2 * tokens * topK),
    judge: () => {
      const exact = routeInDouble(floatsOf(logits), floatsOf(dWeights), 0.7, options);
      // Logits are a few units large, and sums have as many terms as there are experts.
      const near = 2e-6 * Math.sqrt(experts);
      return isBackward
        ? judged({ dLogits: { array: dLogits, expected: exact.dLogits, bound: () => near } })
        : judged({
            weights: { array: weights, expected: exact.weights, bound: () => near },
            indices: { array: indices, expected: exact.indices, bound: () => 1e-30 },
            auxiliary: { array: auxiliary, expected: [exact.auxiliary], bound: () => near * exact.auxiliary },
          });
    },
  };
}

function routeInDouble(
  logits: Float32Array,
  dWeights: Float32Array,
  dAuxiliary: number,
  { topK, router, loads, balanceCoefficient, zCoefficient, totalTokens }: RoutingOptions,
) {
  const experts = loads.length;
  const tokens = logits.length / experts;
  const [weights, indices] = [new Float64Array(tokens * topK), new Int32Array(tokens * topK)];
  const dLogits = new Float64Array(logits.length);
  let auxiliary = 0;
  for (let token = 0; token < tokens; token++) {
    const own = Array.from(logits.subarray(token * experts, (token + 1) * experts));
    const total = own.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const logSumExp = Math.log(total);
    const probabilities = own.map((logit) => Math.exp(logit) / total);
    const scores = router === 'sigmoid' ? own.map(sigmoid) : probabilities;
    const sum = router === 'sigmoid' ? scores.reduce((a, b) => a + b, 0) : 1;
    const best = [...own.keys()].sort((a, b) => own[b]! - own[a]! || a - b).slice(0, topK);
    const ofBest = best.reduce((a, expert) => a + scores[expert]!, 0);
    // The gradient of each score, by way of the weights and of the balance loss; and of the logits, by the z-loss.
    const balance = (balanceCoefficient * experts) / totalTokens;
    const spread = best.reduce((a, expert, k) => a + dWeights[token * topK + k]! * scores[expert]!, 0);
    const shared = scores.reduce((a, score, expert) => a + (loads[expert]! * score) / sum, 0);
    const slopes = scores.map(
      (_, expert) => (dAuxiliary * balance * (loads[expert]! - (router === 'sigmoid' ? shared : 0))) / sum,
    );
    for (const [k, expert] of best.entries()) {
      indices[token * topK + k] = expert;
      weights[token * topK + k] = scores[expert]! / ofBest;
      slopes[expert]! += dWeights[token * topK + k]! / ofBest - spread / ofBest ** 2;
    }
    auxiliary += balance * shared + (zCoefficient / totalTokens) * logSumExp ** 2;
    const mean = slopes.reduce((a, slope, expert) => a + slope * scores[expert]!, 0);
    for (const [expert, slope] of slopes.entries()) {
      const score = scores[expert]!;
      const z = (2 * dAuxiliary * zCoefficient * logSumExp * probabilities[expert]!) / totalTokens;
      dLogits[token * experts + expert] =
        z + (router === 'sigmoid' ? slope * score * (1 - score) : score * (slope - mean));
    }
  }
  return { weights, indices, auxiliary, dLogits };
}
