/** Which form a delta rule has on a device, and what that works in: for those who launch it, and for plans. */

import { documentBounds, type RowLayout } from '../ops/attentionLayout.ts';
import type { RecurrenceLayout } from '../ops/recurrence.ts';
import { type WorkLengths, workBytes } from './workMemory.ts';

/** Tokens of a chunk, and between states that the recurrence keeps for its way back. */
export const [CHUNK, RECURRENCE_CHUNK] = [64, 32];
/** Channels of keys that tiles of chunks have. */
const MOST_KEYS = 128;
/** Documents that the recurrence's backward pass takes side by side at most, each of which needs memory of its own. */
const MOST_SLOTS = 4;
/** Bytes that documents work in together at most, in chunks, where one alone does not take more. No bit depends on it. */
const MOST_TOGETHER = 512 * 2 ** 20;

/** Whether a delta rule goes in chunks: in bf16, where rows lie at multiples of 16 bytes. */
export function takesChunks(
  { keyDim, valueDim }: Pick<RecurrenceLayout, 'keyDim' | 'valueDim'>,
  storage: 'bf16' | 'f32',
): boolean {
  return storage === 'bf16' && keyDim <= MOST_KEYS && keyDim % 8 === 0 && valueDim % 8 === 0;
}

/**
 * What a pass takes of a device's arena besides operands and results, and gives back at its end. Between passes nothing is kept.
 * @param storage of activations
 */
export function deltaRuleBytes(
  layout: RecurrenceLayout,
  storage: 'bf16' | 'f32',
  isBackward: boolean,
): number {
  if (!takesChunks(layout, storage)) return isBackward ? workBytes(recurrenceLengths(layout)) : 0;
  const groups = documentGroups(layout, isBackward);
  return groups.reduce((most, group) => Math.max(most, chunkBytes(group.layout, isBackward)), 0);
}

const chunkBytes = (layout: RecurrenceLayout, isBackward: boolean) =>
  workBytes({ ...productLengths(layout), ...(isBackward && stateLengths(layout)) });

/** Documents that go in chunks together: their rows, from `begin` on, as a layout of their own. */
export interface DocumentGroup {
  readonly begin: number;
  readonly layout: RecurrenceLayout;
}

/** Neighbouring documents, as many as work in so much memory. */
export function documentGroups(
  layout: RecurrenceLayout,
  isBackward: boolean,
  mostBytes = MOST_TOGETHER,
): DocumentGroup[] {
  if (chunkBytes(layout, isBackward) <= mostBytes) return [{ begin: 0, layout }];
  const bounds = documentBounds(layout);
  const groupOf = (first: number, next: number): DocumentGroup => {
    const begin = bounds[first]!;
    const documents = bounds.slice(first, next).map((row) => row - begin);
    return { begin, layout: { ...layout, batch: 1, sequence: bounds[next]! - begin, documents } };
  };
  const groups: DocumentGroup[] = [];
  let first = 0;
  for (let next = 1; next < bounds.length; next++) {
    const hasMore = next + 1 < bounds.length;
    if (hasMore && chunkBytes(groupOf(first, next + 1).layout, isBackward) <= mostBytes) continue;
    groups.push(groupOf(first, next));
    first = next;
  }
  return groups;
}

/** Chunks of each document, whose tokens are counted from its first. */
export function chunksOf(layout: RowLayout, size = CHUNK): number[] {
  const bounds = documentBounds(layout);
  return Array.from(bounds.subarray(1), (end, i) => Math.ceil((end - bounds[i]!) / size));
}

const sumOf = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);

/** Of chunks, what does not depend on states: queries and keys with decays, X, W, and the decays of whole chunks. */
export function productLengths(layout: RecurrenceLayout) {
  const { batch, sequence, heads, keyDim } = layout;
  const chunks = sumOf(chunksOf(layout)) * heads;
  const keys = batch * sequence * heads * keyDim;
  return {
    ...{ decayedQ: [keys, 'bf16'], decayedK: [keys, 'bf16'], x: [keys, 'bf16'] },
    ...{ whole: [chunks * keyDim, 'f32'], w: [chunks * CHUNK * CHUNK, 'bf16'] },
  } as const satisfies WorkLengths;
}

/** What the way back works in besides: the states before chunks and their gradients after them, T, and U. */
export function stateLengths(layout: RecurrenceLayout) {
  const { batch, sequence, heads, keyDim, valueDim } = layout;
  const chunks = sumOf(chunksOf(layout)) * heads;
  const states = chunks * keyDim * valueDim;
  return {
    ...{ states: [states, 'bf16'], dStates: [states, 'bf16'] },
    ...{ u: [batch * sequence * heads * valueDim, 'bf16'], t: [chunks * CHUNK * CHUNK, 'bf16'] },
  } as const satisfies WorkLengths;
}

/** Documents that the recurrence's way back takes side by side. */
export const slotsOf = (layout: RowLayout) => Math.min(documentBounds(layout).length - 1, MOST_SLOTS);

/** What the recurrence's way back works in: states between chunks, those within one, v − Sᵀk, and the state's gradient. */
export function recurrenceLengths(layout: RecurrenceLayout) {
  const { heads, keyDim, valueDim } = layout;
  const chunks = sumOf(chunksOf(layout, RECURRENCE_CHUNK)) * heads;
  const [state, inSlots] = [keyDim * valueDim, slotsOf(layout) * heads];
  return {
    ...{ states: [chunks * state, 'f32'], inner: [inSlots * RECURRENCE_CHUNK * state, 'f32'] },
    ...{ missing: [inSlots * RECURRENCE_CHUNK * valueDim, 'f32'], state: [inSlots * state, 'f32'] },
  } as const satisfies WorkLengths;
}
