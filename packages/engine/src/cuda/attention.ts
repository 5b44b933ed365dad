/** Gated causal attention on a device (`kernels/attention.cu`, `attentionBackward.cu`). */

import { invariant } from '@sluice/core';
import { type AttentionLayout, documentBounds } from '../ops/attentionLayout.ts';
import type { CudaDevice, DeviceArray } from './device.ts';
import { keptCopy } from './keptCopies.ts';

type Bf16 = DeviceArray<'bf16'>;
type Floats = DeviceArray<'f32'>;

/** Of a tile of queries or keys. */
const ROWS = 64;
/** Rows of a head that a block of `attentionGate` has. */
const GATE_ROWS = 8;
/** Channels of a head that kernels are there for. */
export const HEAD_DIMS = [32, 64, 128];

export interface AttentionOperands {
  /** [N, H·D] */
  readonly q: Bf16;
  /** [N, K·D] */
  readonly k: Bf16;
  readonly v: Bf16;
  /** Logits, as the layout says. */
  readonly gate: Bf16 | undefined;
}

export interface AttentionOutputs {
  /** [N, H·D] */
  readonly y: Bf16;
  /** [H, N] */
  readonly logSumExp: Floats;
}

/** For each block of threads its first row, and its document's rows. @param isKeys whether rows are keys, of which the first are seen most */
function blockRanges(device: CudaDevice, layout: AttentionLayout, isKeys: boolean): DeviceArray<'i32'> {
  const bounds = documentBounds(layout);
  return keptCopy(device, `blocks of ${isKeys ? 'keys' : 'queries'} in ${bounds}`, () => {
    const ranges: { first: number; begin: number; end: number; work: number }[] = [];
    for (let document = 0; document + 1 < bounds.length; document++) {
      const [begin, end] = [bounds[document]!, bounds[document + 1]!];
      for (let first = begin; first < end; first += ROWS) {
        ranges.push({ first, begin, end, work: isKeys ? end - first : first - begin });
      }
    }
    // Those with most to do come first, so that they do not end last.
    ranges.sort((a, b) => b.work - a.work);
    const flat = ranges.flatMap(({ first, begin, end }) => [first, begin, end]);
    return device.upload(Int32Array.from(flat), 'i32');
  });
}

/** Gate logits of a row and head. */
function gatesOf({ headDim, gate }: AttentionLayout): number {
  return gate === 'none' ? 0 : gate === 'headwise' ? 1 : headDim;
}

/** What kernels are told of the heads, as `Heads` of `attention.h` has it. */
function headsOf(layout: AttentionLayout): Int32Array {
  const { heads, keyValueHeads, headDim, window = 0 } = layout;
  const struct = new Int32Array([heads, keyValueHeads, gatesOf(layout), window, 0, 0]);
  new Float32Array(struct.buffer).set([Math.LOG2E / Math.sqrt(headDim), 1 / Math.sqrt(headDim)], 4);
  return struct;
}

function checkOperands(
  { q, k, v, gate }: AttentionOperands,
  y: Bf16,
  logSumExp: Floats,
  layout: AttentionLayout,
): void {
  const { heads, keyValueHeads, headDim } = layout;
  const rows = layout.batch * layout.sequence;
  invariant(
    HEAD_DIMS.includes(headDim),
    `heads of ${headDim} channels, where CUDA kernels have ${HEAD_DIMS.join(', ')}`,
  );
  invariant(layout.scoreCap === undefined, 'CUDA kernels of attention cap no scores');
  invariant(
    (layout.gate === 'none') === (gate === undefined),
    `a gate of kind ${layout.gate} and its logits`,
  );
  const [wide, narrow] = [rows * heads * headDim, rows * keyValueHeads * headDim];
  const lengths = [q, k, v, y, gate ?? { length: 0 }, logSumExp].map(({ length }) => length).join(', ');
  const expected = [wide, narrow, narrow, wide, rows * heads * gatesOf(layout), heads * rows].join(', ');
  invariant(
    lengths === expected,
    `q, k, v, y, gate and logSumExp of ${lengths} values, where ${expected} are needed`,
  );
}

/** A block's own tiles and those that pass by, two of each kind at a time. */
const sharedBytesOf = (tiles: number, headDim: number) => tiles * ROWS * headDim * 2;

/**
 * softmax(q·kᵀ/√D)·v ⊙ σ(gate), each document by itself, and the logarithm of each row's sum of exponentials.
 * @param layout heads of 32, 64 or 128 channels; no cap of scores
 */
export function gatedAttention(
  operands: AttentionOperands,
  { y, logSumExp }: AttentionOutputs,
  layout: AttentionLayout,
): void {
  const { q, k, v, gate } = operands;
  const { heads, headDim } = layout;
  checkOperands(operands, y, logSumExp, layout);
  const rows = layout.batch * layout.sequence;
  if (rows === 0) return;
  const { device } = q;
  const ranges = blockRanges(device, layout, false);
  const grid = [ranges.length / 3, heads] as const;
  const kernel = device.kernel('attention', `attention${headDim}`);
  const args = [q, k, v, gate ?? null, y, logSumExp, ranges, rows, headsOf(layout)];
  kernel.launch(grid, sharedBytesOf(5, headDim), ...args);
}

export interface AttentionGradients {
  readonly dq: Bf16;
  readonly dk: Bf16;
  readonly dv: Bf16;
  readonly dGate: Bf16 | undefined;
}

/** The gradients of `gatedAttention` from what it was given and gave, and dy [N, H·D]. dGate may be the gate. */
export function gatedAttentionBackward(
  operands: AttentionOperands & AttentionOutputs & { readonly dy: Bf16 },
  { dq, dk, dv, dGate }: AttentionGradients,
  layout: AttentionLayout,
): void {
  const { q, k, v, gate, y, logSumExp, dy } = operands;
  const { heads, keyValueHeads, headDim } = layout;
  checkOperands(operands, y, logSumExp, layout);
  checkOperands({ q: dq, k: dk, v: dv, gate: dGate }, dy, logSumExp, layout);
  const rows = layout.batch * layout.sequence;
  if (rows === 0) return;
  const { device } = q;
  const [dOut, delta] = [device.allocate(y.length, 'bf16'), device.allocate(logSumExp.length, 'f32')];
  const kernel = (name: string) => device.kernel('attentionBackward', name);
  const gateArgs = [y, gate ?? null, dy, dOut, dGate ?? null, delta, rows, heads, gatesOf(layout), headDim];
  kernel('attentionGate').launch([Math.ceil((rows * heads) / GATE_ROWS)], 0, ...gateArgs);
  const [keys, queries] = [blockRanges(device, layout, true), blockRanges(device, layout, false)];
  const [given, sharedBytes] = [[q, k, v, dOut, logSumExp, delta], sharedBytesOf(6, headDim)];
  const keyGrid = [keys.length / 3, keyValueHeads] as const;
  const structs = [rows, headsOf(layout)];
  kernel(`attentionKeys${headDim}`).launch(keyGrid, sharedBytes, ...given, dk, dv, keys, ...structs);
  const queryGrid = [queries.length / 3, heads] as const;
  kernel(`attentionQueries${headDim}`).launch(queryGrid, sharedBytes, ...given, dq, queries, ...structs);
  for (const array of [dOut, delta]) device.free(array);
}
