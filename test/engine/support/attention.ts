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

/** The layout with its rows cut into documents of these lengths. */
export function withDocuments(layout: AttentionLayout, lengths: readonly number[]): AttentionLayout {
  return { ...layout, documents: documentsOf(lengths) };
}

/** The first rows of documents of these lengths. */
export function documentsOf(lengths: readonly number[]): Int32Array {
  let row = 0;
  return Int32Array.from(lengths, (length) => {
    row += length;
    return row - length;
  });
}

/** Some lengths that fill `batch` sequences of `sequence` tokens, and never cross from one to the next. */
export function documentLengths(batch: number, sequence: number, seed: number): number[] {
  return Array.from({ length: batch }, (_, i) => {
    const lengths: number[] = [];
    for (let left = sequence, draw = seed + i; left > 0; draw = (draw * 75 + 74) % 65537) {
      const length = Math.min(left, 1 + (draw % Math.max(1, Math.ceil(sequence / 2))));
      lengths.push(length);
      left -= length;
    }
    return lengths;
  }).flat();
}

export const anyGate = fc.constantFrom('none' as const, 'elementwise' as const, 'headwise' as const);

/** Of any length, down to the query's own token alone, or none. */
export const anyWindow = fc.option(
  fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 10, max: 150 })),
  { nil: undefined },
);

export const anyHeadDim = fc.constantFrom(2, 4, 6, 8, 16, 18, 32, 64, 128);
