/** Gated feed-forward of rows by their experts on a device, each a product of its own. M rows, C channels, I hidden units of an expert. */

import type { ExpertWeights } from '../../ops/expertFeedForward.ts';
import type { Parameter } from '../../parameter.ts';
import type { Activations } from '../device.ts';
import type { ExpertRows } from '../expertRows.ts';
import { expertGradients, expertProducts } from '../experts.ts';
import { swiGlu, swiGluBackward } from '../operations.ts';
import { masterOf, weightsOf } from '../weights.ts';
import { checkWidths } from './operands.ts';

/** What the gradients of rows and weights are made of. */
export interface ExpertOperands {
  /** [M, C] */
  readonly x: Activations;
  /** [M, 2I] */
  readonly preactivations: Activations;
  /** [M, I] */
  readonly hidden: Activations;
  /** [M, C] */
  readonly dy: Activations;
}

/** @throws SLUICE_E_CUDA_KERNEL where tensor cores do not take rows of these experts */
export function checkExperts({ down }: ExpertWeights): void {
  const [, channels, units] = down.shape as [number, number, number];
  checkWidths('feed-forward of experts', { channels, 'hidden units': units });
}

/** @param x [M, C] @param results y [M, C], and what it is made of, as `ExpertOperands` has it */
export function expertRowsForward(
  x: Activations,
  experts: ExpertRows,
  { gateUp, down, limit = 0 }: ExpertWeights,
  { preactivations, hidden, y }: Pick<ExpertOperands, 'preactivations' | 'hidden'> & { y: Activations },
): void {
  const [, channels, units] = down.shape as [number, number, number];
  expertProducts([x, weightsOf(gateUp), preactivations], experts, { N: 2 * units, K: channels });
  swiGlu(preactivations, hidden, units, limit);
  expertProducts([hidden, weightsOf(down), y], experts, { N: channels, K: units });
}

/**
 * Fills `dx` [M, C]. `preactivations`, those of the forward pass, become their own gradient, and `hidden`, of arbitrary content, the hidden
 * units: what `contributeExpertRows` takes.
 */
export function expertRowsBackward(
  { preactivations, hidden, dy }: Omit<ExpertOperands, 'x'>,
  experts: ExpertRows,
  { gateUp, down, limit = 0 }: ExpertWeights,
  dx: Activations,
): void {
  const [, channels, units] = down.shape as [number, number, number];
  const plain = { isPlain: true };
  expertProducts([dy, weightsOf(down), hidden], experts, { N: units, K: channels }, plain);
  // Each becomes the other of its shape: preactivations their gradient, and the gradient of the hidden units these.
  const gradients = { dPreactivations: preactivations, hidden };
  swiGluBackward({ preactivations, dHidden: hidden }, gradients, units, limit);
  expertProducts([preactivations, weightsOf(gateUp), dx], experts, { N: channels, K: 2 * units }, plain);
}

/** Contributes to the weights' gradients, after `expertRowsBackward`: once for each of the sources, also where it has no rows. */
export function contributeExpertRows(
  { x, preactivations, hidden, dy }: ExpertOperands,
  experts: ExpertRows,
  { gateUp, down }: ExpertWeights,
  sources: readonly number[],
): void {
  for (const source of sources) {
    contributeSegments(down, [dy, hidden], experts, source);
    contributeSegments(gateUp, [preactivations, x], experts, source);
  }
}

/** The gradient [E, O, C] of experts' weights from the rows [M, O] and [M, C] of a source's segments. */
function contributeSegments(
  weight: Parameter,
  rows: readonly [Activations, Activations],
  experts: ExpertRows,
  source: number,
): void {
  const [count, M, N] = weight.shape as [number, number, number];
  weight.contribute((target) => {
    const { accumulate } = target;
    const values = masterOf(target);
    const segments = experts.segmentsOf(source, count, accumulate ? 'filled' : 'all');
    expertGradients(rows, values, segments, { M, N }, { accumulate });
    values.device.free(segments);
  }, source);
}
