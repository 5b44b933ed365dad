/** Shapes of attention for tests. */

import type { AttentionLayout } from '@sluice/engine';
import fc from 'fast-check';

/** [sequences, tokens of each, key-value heads, query heads that share one, channels of a head] */
export type AttentionShape = readonly [number, number, number, number, number];

export function layoutOf(
  [batch, sequence, keyValueHeads, group, headDim]: AttentionShape,
  gate: AttentionLayout['gate'],
): AttentionLayout {
  return { batch, sequence, heads: keyValueHeads * group, keyValueHeads, headDim, gate, epsilon: 1e-6 };
}

export const anyGate = fc.constantFrom('none' as const, 'elementwise' as const, 'headwise' as const);

export const anyHeadDim = fc.constantFrom(2, 4, 6, 8, 16, 18, 32, 64, 128);
