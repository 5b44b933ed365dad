/** Matrix products of the training shapes, the gated feed-forward and the cross-entropy made of them. */

import { callNative } from '../native.ts';
import { filled, product, type Work } from './measure.ts';

function feedForward(rows: number, channels: number, units: number, isBackward: boolean): Work {
  const [x, dy, y, dx] = [1, 1, 1, 1].map((scale) => filled(rows * channels, scale));
  const [gateUp, down] = [filled(2 * units * channels, 0.1), filled(units * channels, 0.1)];
  const start = filled(rows * 2 * units);
  const [preactivations, hidden] = [start.slice(), filled(rows * units)];
  const limit = 0;
  const sizes = [rows, channels, units, limit];
  const flops = 6 * rows * channels * units;
  if (!isBackward) {
    return {
      run: () => void callNative('gatedFeedForward', x!, gateUp, down, y!, preactivations, ...sizes),
      flops,
    };
  }
  return {
    before: () => preactivations.set(start),
    run: () =>
      void callNative('gatedFeedForwardBackward', gateUp, down, preactivations, dy!, hidden, dx!, ...sizes),
    flops,
  };
}

function crossEntropy(tokens: number, channels: number, vocabulary: number): Work {
  const [x, weight, dx] = [
    filled(tokens * channels),
    filled(vocabulary * channels, 0.1),
    filled(tokens * channels),
  ];
  const [dWeight, losses] = [filled(vocabulary * channels), new Float32Array(tokens)];
  const targets = Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % vocabulary);
  return {
    run: () =>
      void callNative(
        'linearCrossEntropy',
        ...[x, weight, targets, losses, dx, dWeight],
        ...[tokens, channels, vocabulary, 1 / tokens, false, 0],
      ),
    flops: 6 * tokens * channels * vocabulary,
  };
}

export const productCases = {
  'product x·Wᵀ, 4096 × 1024 × 256': () =>
    product({ rows: 4096, columns: 1024, depth: 256, transposeB: true }),
  'product x·Wᵀ, 4096 × 16 × 256': () => product({ rows: 4096, columns: 16, depth: 256, transposeB: true }),
  'product x·Wᵀ, 2048 × 2048 × 512': () =>
    product({ rows: 2048, columns: 2048, depth: 512, transposeB: true }),
  'product dy·W, 4096 × 256 × 1024': () => product({ rows: 4096, columns: 256, depth: 1024 }),
  'product dyᵀ·x, 1024 × 256 × 4096': () =>
    product({ rows: 1024, columns: 256, depth: 4096, transposeA: true }),
  'feed-forward, 4096 × 256 × 704': () => feedForward(4096, 256, 704, false),
  'feed-forward backward, 4096 × 256 × 704': () => feedForward(4096, 256, 704, true),
  'feed-forward, 2048 × 512 × 1408': () => feedForward(2048, 512, 1408, false),
  'feed-forward backward, 2048 × 512 × 1408': () => feedForward(2048, 512, 1408, true),
  'cross-entropy with gradients, 4096 × 256 × 8192': () => crossEntropy(4096, 256, 8192),
};
