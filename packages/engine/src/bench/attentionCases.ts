/** Attention at several lengths, always 4096 tokens, 8 heads, 4 key-value heads, elementwise gate; and its heads. */

import { callNative } from '../native.ts';
import { documentArguments } from '../ops/attentionLayout.ts';
import { rotaryTable } from '../ops/rotaryEmbedding.ts';
import { filled, type Work } from './measure.ts';

const [TOKENS, HEADS, KEY_VALUE_HEADS] = [4096, 8, 4];

function attention(sequence: number, headDim: number, isBackward: boolean, window = 0): Work {
  const [wide, narrow] = [TOKENS * HEADS * headDim, TOKENS * KEY_VALUE_HEADS * headDim];
  const [q, gate, y, dy, dq, dGate] = Array.from({ length: 6 }, () => filled(wide));
  const [k, v, dk, dv] = Array.from({ length: 4 }, () => filled(narrow));
  const logSumExp = filled(TOKENS * HEADS);
  const documents = documentArguments({ batch: TOKENS / sequence, sequence });
  const sizes = [...documents, HEADS, KEY_VALUE_HEADS, headDim, false, window];
  const forward = () => void callNative('gatedAttention', q!, k!, v!, gate!, y!, logSumExp, ...sizes);
  // q·kᵀ and weights·v over the pairs that the causal mask and the window leave.
  const seen = window === 0 ? sequence : Math.min(window, sequence);
  const pairs = (TOKENS / sequence) * (seen * sequence - (seen * (seen - 1)) / 2);
  const flops = 4 * pairs * HEADS * headDim;
  if (!isBackward) return { run: forward, flops };
  forward();
  return {
    run: () =>
      void callNative(
        'gatedAttentionBackward',
        ...[q!, k!, v!, gate!, y!, dy!, logSumExp, dq!, dk!, dv!, dGate!],
        ...sizes,
      ),
    // The scores once more, and two products for each of the forward pass's.
    flops: 2.5 * flops,
  };
}

function heads(headDim: number, isBackward: boolean): Work {
  const group = (2 * HEADS * headDim) / KEY_VALUE_HEADS / 2;
  const width = (2 * HEADS + 2 * KEY_VALUE_HEADS) * headDim;
  const [projection, dProjection] = [filled(TOKENS * width), filled(TOKENS * width)];
  const [q, gate] = [filled(TOKENS * HEADS * headDim), filled(TOKENS * HEADS * headDim)];
  const [k, v] = [filled(TOKENS * KEY_VALUE_HEADS * headDim), filled(TOKENS * KEY_VALUE_HEADS * headDim)];
  const [qNorm, kNorm, dqNorm, dkNorm] = Array.from({ length: 4 }, () => filled(headDim));
  const { cos, sin } = rotaryTable(512, headDim, 10_000);
  const sizes = [
    ...documentArguments({ batch: TOKENS / 512, sequence: 512 }),
    HEADS,
    KEY_VALUE_HEADS,
    headDim,
    group,
    1e-6,
  ];
  const arrays = [qNorm!, kNorm!, cos, sin, q, k, v, gate];
  const bytes = 4 * TOKENS * width;
  if (!isBackward) {
    return {
      run: () => void callNative('attentionHeads', projection, ...arrays, ...sizes),
      bytes: 2 * bytes,
    };
  }
  const gradients = [dProjection, dqNorm!, dkNorm!, false, false];
  return {
    run: () => void callNative('attentionHeadsBackward', projection, ...arrays, ...gradients, ...sizes),
    bytes: 3 * bytes,
  };
}

const LENGTHS = [512, 1024, 2048, 4096];

export const attentionCases = Object.fromEntries([
  ...[32, 64].flatMap((headDim) =>
    LENGTHS.flatMap((length) => [
      [`attention, length ${length}, head ${headDim}`, () => attention(length, headDim, false)],
      [`attention backward, length ${length}, head ${headDim}`, () => attention(length, headDim, true)],
    ]),
  ),
  ...[512, 4096].flatMap((length) => [
    [`attention in a window of 256, length ${length}, head 32`, () => attention(length, 32, false, 256)],
    [
      `attention in a window of 256 backward, length ${length}, head 32`,
      () => attention(length, 32, true, 256),
    ],
  ]),
  ['attention heads, 4096 tokens, head 32', () => heads(32, false)],
  ['attention heads backward, 4096 tokens, head 32', () => heads(32, true)],
]) as Record<string, () => Work>;
