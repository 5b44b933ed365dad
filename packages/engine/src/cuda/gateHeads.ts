/** Multiplicative gates on heads, on a device (`kernels/gateHeads.cu`). */

import { invariant } from '@sluice/core';
import type { HeadGate } from '../ops/gateHeads.ts';
import type { DeviceArray } from './device.ts';

type Bf16 = DeviceArray<'bf16'>;

/** Rows of a block, one a warp. */
const ROWS_OF_BLOCK = 8;

/** The rows of y [N, H·D], and what kernels are told of the gate. */
function shapeOf(y: Bf16, logits: Bf16, gate: HeadGate): [number, Int32Array] {
  const { heads, channels, activation, isShared } = gate;
  const rows = y.length / (heads * channels);
  const isHeadwise = logits.length === rows * heads && channels > 1;
  invariant(
    Number.isInteger(rows) && (isHeadwise || logits.length === y.length),
    `${logits.length} gate logits for ${y.length} values of ${heads} heads with ${channels} channels`,
  );
  return [
    rows,
    Int32Array.of(heads, channels, Number(isHeadwise), Number(activation === 'silu'), Number(isShared)),
  ];
}

/** out [N, H·D] = y ⊙ σ(logits), as `gateHeads` of `ops` has it. */
export function gateHeads(y: Bf16, logits: Bf16, out: Bf16, gate: HeadGate): void {
  const [rows, shape] = shapeOf(y, logits, gate);
  if (rows === 0) return;
  const kernel = y.device.kernel('gateHeads', 'gateHeads');
  kernel.launch([Math.ceil(rows / ROWS_OF_BLOCK)], 0, y, logits, out, rows, shape);
}

/** The gradients of both operands. @param gradients dy may be dOut, dLogits may be the logits */
export function gateHeadsBackward(
  { y, logits, dOut }: { readonly y: Bf16; readonly logits: Bf16; readonly dOut: Bf16 },
  { dy, dLogits }: { readonly dy: Bf16; readonly dLogits: Bf16 },
  gate: HeadGate,
): void {
  const [rows, shape] = shapeOf(y, logits, gate);
  if (rows === 0) return;
  const kernel = y.device.kernel('gateHeads', 'gateHeadsBackward');
  kernel.launch([Math.ceil(rows / ROWS_OF_BLOCK)], 0, y, logits, dOut, dy, dLogits, rows, shape);
}
