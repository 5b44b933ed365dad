/** A mixture of experts at the size of moe-20m: 4096 tokens, 16 experts of 192 units, 4 of them for each token. */

import { callNative } from '../native.ts';
import { planOnHost } from '../ops/dispatchTokens.ts';
import { filled, type Work } from './measure.ts';

const [TOKENS, CHANNELS, EXPERTS, TOP_K, UNITS] = [4096, 256, 16, 4, 192];
const ROWS = TOKENS * TOP_K;
const FLOAT = 4;

function plan() {
  // Each token goes to different experts, all to about as many.
  const indices = Int32Array.from(
    { length: ROWS },
    (_, slot) =>
      (((Math.floor(slot / TOP_K) * 5 + (slot % TOP_K) * (1 + (slot % 3))) % EXPERTS) + EXPERTS) % EXPERTS,
  );
  const [order, position, counts] = planOnHost(indices, EXPERTS);
  return { order, position, counts };
}

function segments(): [number, Int32Array, Int32Array, Int32Array] {
  const { counts } = plan();
  const begins = new Int32Array(EXPERTS);
  for (let expert = 1; expert < EXPERTS; expert++) begins[expert] = begins[expert - 1]! + counts[expert - 1]!;
  return [EXPERTS, Int32Array.from({ length: EXPERTS }, (_, expert) => expert), begins, counts];
}

function experts(isBackward: boolean): Work {
  const [x, y] = [filled(ROWS * CHANNELS), filled(ROWS * CHANNELS)];
  const [gateUp, down] = [
    filled(EXPERTS * 2 * UNITS * CHANNELS, 0.1),
    filled(EXPERTS * UNITS * CHANNELS, 0.1),
  ];
  const start = filled(ROWS * 2 * UNITS);
  const [preactivations, hidden] = [start.slice(), filled(ROWS * UNITS)];
  const limit = 0;
  const sizes = [ROWS, CHANNELS, UNITS, EXPERTS, ...segments(), limit];
  const flops = 6 * ROWS * CHANNELS * UNITS;
  if (!isBackward) {
    return {
      run: () => void callNative('expertFeedForward', x, gateUp, down, y, preactivations, ...sizes),
      flops,
    };
  }
  return {
    before: () => preactivations.set(start),
    run: () =>
      void callNative('expertFeedForwardBackward', gateUp, down, preactivations, y, hidden, x, ...sizes),
    flops,
  };
}

function expertWeights(): Work {
  const [a, b] = [filled(ROWS * 2 * UNITS), filled(ROWS * CHANNELS)];
  const dWeight = filled(EXPERTS * 2 * UNITS * CHANNELS);
  const sizes = [ROWS, 2 * UNITS, CHANNELS, EXPERTS, false, ...segments()];
  return {
    run: () => void callNative('expertWeightGradient', a, b, dWeight, ...sizes),
    flops: 4 * ROWS * CHANNELS * UNITS,
  };
}

function router(isBackward: boolean): Work {
  const [logits, weights] = [filled(TOKENS * EXPERTS), filled(ROWS)];
  const loads = new Float32Array(EXPERTS).fill(1 / EXPERTS);
  const indices = new Int32Array(ROWS);
  const sizes = [TOKENS, EXPERTS, TOP_K, true, 0.001, 0, false, 1];
  const forward = () => void callNative('router', logits, loads, weights, indices, ...sizes, null, 1, 1);
  const bytes = FLOAT * (TOKENS * EXPERTS + 2 * ROWS);
  if (!isBackward) return { run: forward, bytes };
  forward();
  const dLogits = filled(TOKENS * EXPERTS);
  return {
    run: () => void callNative('routerBackward', logits, loads, indices, weights, dLogits, ...sizes),
    bytes: bytes + FLOAT * TOKENS * EXPERTS,
  };
}

const dispatch = (): Work => {
  const [x, y, { order }] = [filled(TOKENS * CHANNELS), filled(ROWS * CHANNELS), plan()];
  return {
    run: () => void callNative('dispatchTokens', x, order, y, TOKENS, TOP_K, CHANNELS),
    bytes: FLOAT * CHANNELS * (TOKENS + ROWS),
  };
};

const combine = (): Work => {
  const [y, weights, out] = [filled(ROWS * CHANNELS), filled(ROWS), filled(TOKENS * CHANNELS)];
  const { position } = plan();
  return {
    run: () => void callNative('combineTokens', y, weights, position, out, TOKENS, TOP_K, CHANNELS),
    bytes: FLOAT * CHANNELS * (TOKENS + ROWS),
  };
};

const combineBackward = (): Work => {
  const [y, weights, dOut] = [filled(ROWS * CHANNELS), filled(ROWS), filled(TOKENS * CHANNELS)];
  const [dy, dWeights, { order }] = [filled(ROWS * CHANNELS), filled(ROWS), plan()];
  const arrays = [y, weights, order, dOut, dy, dWeights];
  return {
    run: () => void callNative('combineTokensBackward', ...arrays, TOKENS, TOP_K, CHANNELS),
    bytes: FLOAT * CHANNELS * (TOKENS + 2 * ROWS),
  };
};

export const expertCases = {
  'experts, 16384 rows, 16 × 256 × 192': () => experts(false),
  'experts backward, 16384 rows, 16 × 256 × 192': () => experts(true),
  'experts, gradient of gate and up': expertWeights,
  'router, 4096 × 16, top 4': () => router(false),
  'router backward, 4096 × 16, top 4': () => router(true),
  'dispatch, 4096 → 16384 rows of 256': dispatch,
  'combine, 16384 → 4096 rows of 256': combine,
  'combine backward, 16384 rows of 256': combineBackward,
};
