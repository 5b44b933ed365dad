/** Attention of new tokens to kept keys and values on a device (`kernels/cachedAttention.cu`). */

import { invariant } from '@sluice/core';
import type { AttentionLayout } from '../ops/attentionLayout.ts';
import { gatesOf } from './attention.ts';
import { type Activations, type DeviceArray, kernelFor } from './device.ts';

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

/** Attention of the last T of S tokens, as `cachedAttention` of the operations has it. @param y [T, H·D] */
export function cachedAttention(operands: CachedOperands, y: Activations, layout: AttentionLayout): void {
  const { q, keys, values, tokens, gate } = operands;
  const { sequence, heads, keyValueHeads, headDim, window = 0, scoreCap } = layout;
  const least = tokens * keyValueHeads * headDim;
  invariant(
    takesCachedHeads(headDim) && q.length === sequence * heads * headDim && y.length === q.length,
    `${q.length} queries of ${headDim} channels for ${sequence} tokens of ${heads} heads`,
  );
  invariant(keys.length >= least && values.length >= least, `a cache of ${least} elements`);
  if (q.length === 0) return;
  const struct = new Int32Array(11);
  struct.set([tokens, sequence, heads, keyValueHeads, headDim, gatesOf(layout), window]);
  const [scale, cap] = [1 / Math.sqrt(headDim), scoreCap ?? 1];
  new Float32Array(struct.buffer).set([Math.LOG2E * scale, Math.LOG2E * cap, scale / cap], 7);
  struct[10] = Number(scoreCap !== undefined);
  const { device } = q;
  const count = Math.ceil(tokens / KEYS_OF_PART);
  const parts = device.allocate(count * heads * sequence * (headDim + 2), 'f32');
  const kernel = (name: string) => kernelFor('cachedAttention', name, q);
  kernel('cachedAttention').launch([count, heads, sequence], SHARED_BYTES, q, keys, values, parts, struct);
  kernel('joinCachedAttention').launch([heads, sequence], 0, parts, gate ?? null, y, count, struct);
  device.free(parts);
}
