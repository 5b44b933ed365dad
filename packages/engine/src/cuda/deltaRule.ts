/**
 * Delta rules on a device: the recurrence, token after token in single precision (`kernels/deltaRule.cu`), or in chunks of tokens on tensor
 * cores (`deltaChunks.ts`). N tokens, H heads, Dk channels of a key, Dv of a value.
 */

import { invariant } from '@sluice/core';
import { documentBounds } from '../ops/attentionLayout.ts';
import type { RecurrenceLayout } from '../ops/recurrence.ts';
import { deltaChunks, deltaChunksBackward } from './deltaChunks.ts';
import { chunksOf, RECURRENCE_CHUNK, recurrenceLengths, slotsOf } from './deltaRuleMemory.ts';
import { type Activations, type CudaDevice, type DeviceArray, type Kernel, kernelFor } from './device.ts';
import { MOST_BLOCKS } from './limits.ts';
import type { RecurrenceOperands, States } from './recurrenceOperands.ts';
import { allocateWork, freeWork } from './workMemory.ts';

/** Of the kernels: warps and threads of a block, columns of a forward block, most channels of a key or value. */
const [WARPS, THREADS, COLUMNS, MOST_DIM] = [8, 256, 32, 256];
const TOKEN_BYTES = 3 * 4 * MOST_DIM;
const FORWARD_BYTES = TOKEN_BYTES + 4 * (MOST_DIM * COLUMNS + 2 * WARPS * COLUMNS);
const BACKWARD_BYTES = TOKEN_BYTES + 4 * (4 * MOST_DIM + THREADS);

/** Whether there are kernels for heads of such sizes. */
export function takesStates({ keyDim, valueDim }: Pick<RecurrenceLayout, 'keyDim' | 'valueDim'>): boolean {
  return keyDim <= MOST_DIM && valueDim <= MOST_DIM;
}

interface Documents {
  readonly array: DeviceArray<'i32'>;
  readonly count: number;
}

/** What kernels are told of the documents: of each its first row, and its first chunk among those of all. */
function documentsOf(device: CudaDevice, layout: RecurrenceLayout): Documents {
  const bounds = [...documentBounds(layout)];
  const counts = chunksOf(layout, RECURRENCE_CHUNK);
  let chunks = 0;
  const rows = bounds.flatMap((begin, i) => {
    const row = [begin, chunks, 0];
    chunks += counts[i] ?? 0;
    return row;
  });
  const array = device.copies.of(`chunks of ${bounds}`, () => device.upload(Int32Array.from(rows), 'i32'));
  return { array, count: bounds.length - 1 };
}

/** `Recurrence` of the kernels. */
function structOf(layout: RecurrenceLayout, { count }: Documents, slots: number): Int32Array {
  const { heads, keyDim, valueDim, decays } = layout;
  const struct = new Int32Array([heads, keyDim, valueDim, decays, 0, count, slots]);
  new Float32Array(struct.buffer)[4] = keyDim ** -0.5;
  return struct;
}

function argumentsOf({ q, k, v, beta, g }: RecurrenceOperands, layout: RecurrenceLayout): Activations[] {
  const { batch, sequence, heads, keyDim, valueDim, decays } = layout;
  const rows = batch * sequence * heads;
  const expected = [keyDim, keyDim, valueDim, 1, decays].map((width) => rows * width);
  const operands = [q, k, v, beta, g];
  const lengths = operands.map(({ length }) => length);
  invariant(`${lengths}` === `${expected}`, `q, k, v, β and g of ${lengths} values, not ${expected}`);
  invariant(takesStates(layout), `a state of ${keyDim} × ${valueDim}`);
  return operands;
}

/**
 * In chunks where queries, keys and values are in bf16, and otherwise token after token.
 * @param y [N, H·Dv]
 * @param states of one document that is continued
 */
export function deltaRule(
  operands: RecurrenceOperands,
  y: Activations,
  layout: RecurrenceLayout,
  states: States = {},
): void {
  if (isInChunks(operands)) deltaChunks(operands, y, layout, states);
  else deltaRecurrence(operands, y, layout, states);
}

/** The gradients of `deltaRule` from dy [N, H·Dv], in the shapes and storages of its operands. */
export function deltaRuleBackward(
  operands: RecurrenceOperands & { readonly dy: Activations },
  gradients: RecurrenceOperands,
  layout: RecurrenceLayout,
): void {
  if (isInChunks(operands)) deltaChunksBackward(operands, gradients, layout);
  else deltaRecurrenceBackward(operands, gradients, layout);
}

const isInChunks = ({ q }: RecurrenceOperands) => q.storage === 'bf16';

function deltaRecurrence(
  operands: RecurrenceOperands,
  y: Activations,
  layout: RecurrenceLayout,
  { before, after }: States,
): void {
  const kernel = kernelFor('deltaRule', 'deltaRule', y);
  launchForward(operands, layout, kernel, [y, null, before ?? null, after ?? null]);
}

function launchForward(
  operands: RecurrenceOperands,
  layout: RecurrenceLayout,
  kernel: Kernel,
  outputs: (DeviceArray | null)[],
): void {
  const { device } = operands.q;
  const documents = documentsOf(device, layout);
  const args = [...argumentsOf(operands, layout), ...outputs];
  if (operands.q.length === 0) return;
  const struct = structOf(layout, documents, 1);
  // In chunks there are fewer, for want of memory.
  const [, , most] = MOST_BLOCKS;
  for (let first = 0; first < documents.count; first += most) {
    const count = Math.min(most, documents.count - first);
    const grid = [Math.ceil(layout.valueDim / COLUMNS), layout.heads, count] as const;
    kernel.launch(grid, FORWARD_BYTES, ...args, documents.array.subarray(3 * first), struct);
  }
}

function deltaRecurrenceBackward(
  operands: RecurrenceOperands & { readonly dy: Activations },
  gradients: RecurrenceOperands,
  layout: RecurrenceLayout,
): void {
  const { heads } = layout;
  const { device } = operands.q;
  const given = argumentsOf(operands, layout);
  const { q, k, v, beta, g } = gradients;
  if (operands.q.length === 0) return;
  const documents = documentsOf(device, layout);
  const slots = slotsOf(layout);
  const work = allocateWork(device, recurrenceLengths(layout));
  const { states, inner, missing, state } = work;
  const forward = kernelFor('deltaRule', 'deltaRule', operands.dy);
  launchForward(operands, layout, forward, [null, states, null, null]);
  const args = [...given, operands.dy, states, inner, missing, state, q, k, v, beta, g, documents.array];
  const kernel = kernelFor('deltaRule', 'deltaRuleBackward', operands.dy);
  kernel.launch([heads, slots], BACKWARD_BYTES, ...args, structOf(layout, documents, slots));
  freeWork(device, work);
}
