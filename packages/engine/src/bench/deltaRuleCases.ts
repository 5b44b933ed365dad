/** What linear-attention layers are made of, always 4096 tokens, 8 heads, beside attention's cases of the same sizes. */

import { callNative } from '../native.ts';
import { documentArguments } from '../ops/attentionLayout.ts';
import { DELTA_RULE_CHUNK } from '../ops/recurrence.ts';
import { filled, type Work } from './measure.ts';

const [TOKENS, HEADS, TAPS] = [4096, 8, 4];
const FLOAT = 4;

function deltaRule(sequence: number, headDim: number, isBackward: boolean): Work {
  const [width, outputs] = [3 * HEADS * headDim, HEADS * headDim];
  const [heads, dHeads] = [filled(TOKENS * width), filled(TOKENS * width)];
  const [logits, dLogits] = [filled(TOKENS * 2 * HEADS, 2), filled(TOKENS * 2 * HEADS)];
  const [aLog, dtBias, dALog, dDtBias] = Array.from({ length: 4 }, () => filled(HEADS));
  const [y, dy] = [filled(TOKENS * outputs), filled(TOKENS * outputs)];
  const sizes = [
    ...documentArguments({ batch: TOKENS / sequence, sequence }),
    HEADS,
    HEADS,
    headDim,
    headDim,
    false,
  ];
  const inputs = [heads, logits, aLog!, dtBias!];
  // Of a chunk, three products with the state, and four of half a square: q·k, k·k, the solution and P·U.
  const flops = 2 * TOKENS * HEADS * headDim * (3 * headDim + 2 * DELTA_RULE_CHUNK);
  if (!isBackward)
    return { run: () => void callNative('gatedDeltaRule', ...inputs, y, null, ...sizes), flops };
  const gradients = [dHeads, dLogits, dALog!, dDtBias!, false, false];
  return {
    run: () => void callNative('gatedDeltaRuleBackward', ...inputs, dy, ...gradients, ...sizes),
    // The states once more (two products with the state, two half squares); then six, and ten half squares.
    flops: 2 * TOKENS * HEADS * headDim * (8 * headDim + 6 * DELTA_RULE_CHUNK),
  };
}

/** With a decay of each channel; the products are those of the gated delta rule, and exponentials come on top. */
function kimiDeltaRule(sequence: number, headDim: number, isBackward: boolean): Work {
  const { flops } = deltaRule(sequence, headDim, isBackward);
  const [keys, width] = [HEADS * headDim, 3 * HEADS * headDim];
  const [heads, dHeads] = [filled(TOKENS * width), filled(TOKENS * width)];
  const [beta, dBeta] = [filled(TOKENS * HEADS, 2), filled(TOKENS * HEADS)];
  const [decay, dDecay] = [filled(TOKENS * keys, 3), filled(TOKENS * keys)];
  const [aLog, dtBias, dALog, dDtBias] = [HEADS, keys, HEADS, keys].map((length) => filled(length));
  const [y, dy] = [filled(TOKENS * keys), filled(TOKENS * keys)];
  const sizes = [...documentArguments({ batch: TOKENS / sequence, sequence }), HEADS, headDim, headDim];
  const inputs = [heads, beta, decay, aLog!, dtBias!];
  if (!isBackward)
    return { run: () => void callNative('kimiDeltaRule', ...inputs, y, null, ...sizes), flops };
  const gradients = [dHeads, dBeta, dDecay, dALog!, dDtBias!, false, false];
  return {
    run: () => void callNative('kimiDeltaRuleBackward', ...inputs, dy, ...gradients, ...sizes),
    flops,
  };
}

function convolution(isBackward: boolean): Work {
  const channels = 3 * HEADS * 32;
  const [x, y, dx] = Array.from({ length: 3 }, () => filled(TOKENS * channels));
  const [weights, dWeights] = [filled(channels * TAPS), filled(channels * TAPS)];
  const sizes = [...documentArguments({ batch: TOKENS / 512, sequence: 512 }), channels, TAPS, true];
  if (!isBackward) {
    return {
      run: () => void callNative('shortConvolution', x!, weights, y!, ...sizes),
      bytes: 2 * FLOAT * TOKENS * channels,
    };
  }
  return {
    run: () => void callNative('shortConvolutionBackward', x!, weights, y!, dx!, dWeights, ...sizes, false),
    bytes: 3 * FLOAT * TOKENS * channels,
  };
}

const LENGTHS = [512, 1024, 2048, 4096];

export const deltaRuleCases = Object.fromEntries([
  ...[32, 64, 128].flatMap((headDim) =>
    LENGTHS.flatMap((length) => [
      [`delta rule, length ${length}, head ${headDim}`, () => deltaRule(length, headDim, false)],
      [`delta rule backward, length ${length}, head ${headDim}`, () => deltaRule(length, headDim, true)],
    ]),
  ),
  ...LENGTHS.flatMap((length) => [
    [`Kimi delta rule, length ${length}, head 128`, () => kimiDeltaRule(length, 128, false)],
    [`Kimi delta rule backward, length ${length}, head 128`, () => kimiDeltaRule(length, 128, true)],
  ]),
  ['short convolution, 4096 × 768, 4 taps', () => convolution(false)],
  ['short convolution backward, 4096 × 768, 4 taps', () => convolution(true)],
]) as Record<string, () => Work>;
