/** Attention of new tokens to kept keys and values on a device (`kernels/cachedAttention.cu`). */

import { invariant } from '@sluice/core';
import type { AttentionLayout } from '../ops/attentionLayout.ts';
import { gatesOf } from './attention.ts';
import { type Activations, type DeviceArray, kernelFor } from './device.ts';
import type { Grid } from './driver.ts';
import { MOST_BLOCKS } from './limits.ts';

type Floats = DeviceArray<'f32'>;

/** Of the kernels: keys of a part, warps of a block, and most channels of a head. */
const [KEYS_OF_PART, WARPS, MOST_CHANNELS] = [512, 4, 256];
const SHARED_BYTES = 4 * (MOST_CHANNELS + WARPS * (2 + MOST_CHANNELS));

/** Whether there are kernels for heads of so many channels. */
export const takesCachedHeads = (headDim: number) => headDim <= MOST_CHANNELS;

export interface CachedOperands {
  /** [T, H·D] */
  readonly q: Activations;
  /** [S, K·D], or more rows */
  readonly keys: Floats;
  readonly values: Floats;
  /** S */
  readonly tokens: number;
  /** Logits, as the layout says. */
  readonly gate: Activations | undefined;
}

/** What the kernels work in, for as many queries at a time as it has room for. */
const WORK_BYTES = 64 << 20;

/**
 * Attention of the last T of S tokens, as `cachedAttention` of the operations has it.
 * @param y [T, H·D]
 * @param workBytes no bit depends on it
 */
export function cachedAttention(
  operands: CachedOperands,
  y: Activations,
  layout: AttentionLayout,
  workBytes = WORK_BYTES,
): void {
  const { q, keys, values, tokens, gate } = operands;
  const { sequence, heads, keyValueHeads, headDim, window = 0, scoreCap } = layout;
  const least = tokens * keyValueHeads * headDim;
  invariant(
    takesCachedHeads(headDim) && q.length === sequence * heads * headDim && y.length === q.length,
    `${q.length} queries of ${headDim} channels for ${sequence} tokens of ${heads} heads`,
  );
  invariant(keys.length >= least && values.length >= least, `a cache of ${least} elements`);
  if (q.length === 0) return;
  const gates = gatesOf(layout);
  const struct = new Int32Array(11);
  struct.set([heads, keyValueHeads, headDim, gates, window], 2);
  const [scale, cap] = [1 / Math.sqrt(headDim), scoreCap ?? 1];
  new Float32Array(struct.buffer).set([Math.LOG2E * scale, Math.LOG2E * cap, scale / cap], 7);
  struct[10] = Number(scoreCap !== undefined);
  const { device } = q;
  const partsOf = (seen: number) => Math.ceil(seen / KEYS_OF_PART);
  const ofQuery = partsOf(tokens) * heads * (headDim + 2);
  const together = Math.min(sequence, MOST_BLOCKS[2], Math.max(1, Math.floor(workBytes / (4 * ofQuery))));
  const parts = device.allocate(together * ofQuery, 'f32');
  const kernel = (name: string) => kernelFor('cachedAttention', name, q);
  for (let begin = 0; begin < sequence; begin += together) {
    const end = Math.min(sequence, begin + together);
    const rows = (array: Activations, width: number) => array.subarray(begin * width, end * width);
    const seen = tokens - sequence + end;
    const count = partsOf(seen);
    struct.set([seen, end - begin]);
    const [queries, logits] = [rows(q, heads * headDim), gate ? rows(gate, heads * gates) : null];
    const grid: Grid = [count, heads, end - begin];
    kernel('cachedAttention').launch(grid, SHARED_BYTES, queries, keys, values, parts, struct);
    const joined = [parts, logits, rows(y, heads * headDim), count, struct] as const;
    kernel('joinCachedAttention').launch([heads, end - begin], 0, ...joined);
  }
  device.free(parts);
}
