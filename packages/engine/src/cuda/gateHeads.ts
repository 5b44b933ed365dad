/** Multiplicative gates on heads, on a device (`kernels/gateHeads.cu`). */

import { invariant } from '@sluice/core';
import type { HeadGate } from '../ops/gateHeads.ts';
import { type Activations, kernelFor } from './device.ts';

/** Rows of a block, one a warp. */
const ROWS_OF_BLOCK = 8;

/** The rows of y [N, H·D], and what kernels are told of the gate. */
function shapeOf(y: Activations, logits: Activations, gate: HeadGate): [number, Int32Array] {
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
export function gateHeads(y: Activations, logits: Activations, out: Activations, gate: HeadGate): void {
  const [rows, shape] = shapeOf(y, logits, gate);
  if (rows === 0) return;
  const kernel = kernelFor('gateHeads', 'gateHeads', y);
  kernel.launch([Math.ceil(rows / ROWS_OF_BLOCK)], 0, y, logits, out, rows, shape);
}

/** The gradients of both operands. @param gradients dy may be dOut, dLogits may be the logits */
export function gateHeadsBackward(
  { y, logits, dOut }: { readonly y: Activations; readonly logits: Activations; readonly dOut: Activations },
  { dy, dLogits }: { readonly dy: Activations; readonly dLogits: Activations },
  gate: HeadGate,
): void {
  const [rows, shape] = shapeOf(y, logits, gate);
  if (rows === 0) return;
  const kernel = kernelFor('gateHeads', 'gateHeadsBackward', y);
  kernel.launch([Math.ceil(rows / ROWS_OF_BLOCK)], 0, y, logits, dOut, dy, dLogits, rows, shape);
}
