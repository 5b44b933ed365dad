/** From the projection of an attention block to its heads, and back, on a device (`kernels/attentionHeads.cu`). */

import { invariant } from '@sluice/core';
import { type AttentionLayout, gateWidth, projectionWidth } from '../ops/attentionLayout.ts';
import { type Activations, type DeviceArray, kernelFor } from './device.ts';
import { sumRows } from './flatArithmetic.ts';

type Floats = DeviceArray<'f32'>;

const THREADS = 256;
/** Of `attentionHeads.cu`: tokens whose contributions to the gains' gradients are added up together. */
const ROWS_OF_PART = 64;
const MOST_CHANNELS = 256;
/** Sums of eight warps. */
const SHARED_BYTES = 8 * MOST_CHANNELS * 4;

export interface HeadsOperands {
  /** [N, W], as `attentionHeads` of `ops` has it. */
  readonly projection: Activations;
  /** [D] each; without one, there is no norm. */
  readonly qGain: Floats | null;
  readonly kGain: Floats | null;
  /** [positions, D/2] each */
  readonly cosine: Floats;
  readonly sine: Floats;
  /** [N], of each token in its document */
  readonly position: DeviceArray<'i32'>;
}

/** [N, H·D], [N, K·D] twice, and the gate's logits if there is a gate. */
export interface Heads {
  readonly q: Activations;
  readonly k: Activations;
  readonly v: Activations;
  readonly gate: Activations | null;
}

function shapeOf(layout: AttentionLayout): Int32Array {
  const { heads, keyValueHeads, headDim } = layout;
  return Int32Array.of(heads, keyValueHeads, headDim, gateWidth(layout) / heads);
}

function check({ projection, position }: HeadsOperands, of: Heads, layout: AttentionLayout): void {
  const { heads, keyValueHeads, headDim, epsilon } = layout;
  const tokens = position.length;
  invariant(
    headDim % 4 === 0 && headDim <= MOST_CHANNELS,
    `heads of ${headDim} channels: no multiple of 4 up to ${MOST_CHANNELS}`,
  );
  const lengths = [projection, of.q, of.k, of.v, of.gate ?? []].map(({ length }) => length).join(', ');
  const widths = [projectionWidth(layout), heads * headDim, keyValueHeads * headDim];
  const expected = [...widths, widths[2]!, gateWidth(layout)].map((width) => tokens * width).join(', ');
  invariant(lengths === expected, `heads of ${lengths} values, where ${expected} are needed`);
  invariant(epsilon >= 0, `ε = ${epsilon}`);
}

/** Norms and turns queries and keys, and copies values and gate logits. @param layout channels are a multiple of 4, 256 at most */
export function attentionHeads(operands: HeadsOperands, outputs: Heads, layout: AttentionLayout): void {
  check(operands, outputs, layout);
  const { projection, qGain, kGain, cosine, sine, position } = operands;
  const units = position.length * (layout.heads + 2 * layout.keyValueHeads);
  if (units === 0) return;
  const { q, k, v, gate } = outputs;
  const kernel = kernelFor('attentionHeads', 'attentionHeads', projection);
  const given = [projection, qGain, kGain, cosine, sine, position];
  const grid = [Math.ceil(units / (THREADS / 32))] as const;
  kernel.launch(grid, 0, ...given, q, k, v, gate, units, shapeOf(layout), layout.epsilon);
}

export interface HeadsGradients {
  readonly dProjection: Activations;
  /** Of the gains that there are; written, or added to. */
  readonly dqGain: GainGradient | null;
  readonly dkGain: GainGradient | null;
}

interface GainGradient {
  /** [D] */
  readonly values: Floats;
  readonly accumulate: boolean;
}

/** The gradients of `attentionHeads` from those of its outputs. */
export function attentionHeadsBackward(
  operands: HeadsOperands,
  dOutputs: Heads,
  { dProjection, dqGain, dkGain }: HeadsGradients,
  layout: AttentionLayout,
): void {
  check(operands, dOutputs, layout);
  const { projection, qGain, kGain, cosine, sine, position } = operands;
  invariant(dProjection.length === projection.length, 'a gradient of the size of the projection');
  const { device } = projection;
  const { heads, keyValueHeads, headDim, epsilon } = layout;
  const parts = Math.ceil(position.length / ROWS_OF_PART);
  const qParts = device.allocate(qGain ? heads * parts * headDim : 0, 'f32');
  const kParts = device.allocate(kGain ? keyValueHeads * parts * headDim : 0, 'f32');
  if (parts > 0) {
    const kernel = kernelFor('attentionHeads', 'attentionHeadsBackward', projection);
    const { q, k, v, gate } = dOutputs;
    const given = [projection, qGain, kGain, cosine, sine, position, q, k, v, gate];
    const taken = [dProjection, qParts, kParts, position.length, shapeOf(layout), epsilon];
    kernel.launch([parts, heads + 2 * keyValueHeads], SHARED_BYTES, ...given, ...taken);
  }
  if (dqGain) sumHeads(dqGain, qParts, parts * headDim);
  if (dkGain) sumHeads(dkGain, kParts, parts * headDim);
  for (const array of [qParts, kParts]) device.free(array);
}

/** First over the heads, then over the parts. */
function sumHeads({ values, accumulate }: GainGradient, ofHeads: Floats, width: number): void {
  const { device } = values;
  const sums = device.allocate(width, 'f32');
  sumRows(sums, ofHeads, false);
  sumRows(values, sums, accumulate);
  device.free(sums);
}
