/** Gated causal attention on a device (`attentionForward.h`, `attentionBackward.h`; `attentionFloat.h`; on Hopper `attentionHopper.ts`). */

import { invariant } from '@sluice/core';
import { type AttentionLayout, documentBounds } from '../ops/attentionLayout.ts';
import { hopperKernel, LEAST_HOPPER_CHANNELS } from './attentionHopper.ts';
import type { AttentionKernel, AttentionKernelName } from './attentionKernel.ts';
import { type Activations, bytesOf, type CudaDevice, type DeviceArray, kernelFor } from './device.ts';
import { CUDA_SIZES } from './sizes.ts';

type Floats = DeviceArray<'f32'>;

/** Rows of a head that a block of `attentionGate` has. */
const GATE_ROWS = 8;
/** Channels of a tile that kernels are there for: a head takes the first that has as many. */
const TILE_CHANNELS = { bf16: [32, 64, 128, 256], f32: [64, 128, 256] };
/** Heads of more channels are wide: less of them is there at a time. */
const MOST_NARROW_CHANNELS = 128;

/** Whether there are kernels for heads of so many channels. */
export function takesHeads(headDim: number): boolean {
  const { headMultiple, mostChannels } = CUDA_SIZES;
  return headDim > 0 && headDim % headMultiple === 0 && headDim <= mostChannels;
}

export interface AttentionOperands {
  /** [N, H·D] */
  readonly q: Activations;
  /** [N, K·D] */
  readonly k: Activations;
  readonly v: Activations;
  /** Logits, as the layout says. */
  readonly gate: Activations | undefined;
}

export interface AttentionOutputs {
  /** [N, H·D] */
  readonly y: Activations;
  /** [H, N] */
  readonly logSumExp: Floats;
}

/**
 * For each block of threads its first row, and its document's rows.
 * @param rows of a block
 * @param isKeys whether they are keys, of which the first are seen most
 */
function blockRanges(
  device: CudaDevice,
  layout: AttentionLayout,
  rows: number,
  isKeys: boolean,
): DeviceArray<'i32'> {
  const bounds = documentBounds(layout);
  return device.copies.of(`blocks of ${rows} ${isKeys ? 'keys' : 'queries'} in ${bounds}`, () => {
    const ranges: { first: number; begin: number; end: number; work: number }[] = [];
    for (let document = 0; document + 1 < bounds.length; document++) {
      const [begin, end] = [bounds[document]!, bounds[document + 1]!];
      for (let first = begin; first < end; first += rows) {
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
export function gatesOf({ headDim, gate }: AttentionLayout): number {
  return gate === 'none' ? 0 : gate === 'headwise' ? 1 : headDim;
}

/** What kernels are told of the heads, as `Heads` of `attention.h` has it. */
function headsOf(layout: AttentionLayout): Int32Array {
  const { heads, keyValueHeads, headDim, window = 0, scoreCap } = layout;
  const struct = new Int32Array(9);
  struct.set([heads, keyValueHeads, headDim, gatesOf(layout), window]);
  const scale = 1 / Math.sqrt(headDim);
  const capped = scoreCap === undefined ? [0, 0] : [Math.LOG2E * scoreCap, scale / scoreCap];
  new Float32Array(struct.buffer).set([Math.LOG2E * scale, scale, ...capped], 5);
  return struct;
}

function checkOperands(
  { q, k, v, gate }: AttentionOperands,
  y: Activations,
  logSumExp: Floats,
  layout: AttentionLayout,
): void {
  const { heads, keyValueHeads, headDim } = layout;
  const rows = layout.batch * layout.sequence;
  invariant(
    takesHeads(headDim),
    `heads of ${headDim} channels, where CUDA kernels have multiples of 8 to 256`,
  );
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

export interface AttentionOptions {
  /** Whether to compute by a Hopper's own kernels, which have the same bits; as the device has it, where nothing is said. */
  readonly isHopper?: boolean | undefined;
}

/** The kernel for a layout and the storage of its activations. */
function tileKernel(
  { device, storage }: Activations,
  name: AttentionKernelName,
  layout: AttentionLayout,
  { isHopper = device.isHopper }: AttentionOptions,
): AttentionKernel {
  const channels = TILE_CHANNELS[storage].find((channels) => layout.headDim <= channels)!;
  if (storage === 'f32') return floatKernel(device, name, channels);
  const isOwn = isHopper && channels >= LEAST_HOPPER_CHANNELS;
  return (isOwn ? hopperKernel : warpKernel)(device, name, layout, channels);
}

/** By `mma.sync`, of tiles of 64 rows. */
function warpKernel(
  device: CudaDevice,
  name: AttentionKernelName,
  { scoreCap }: AttentionLayout,
  channels: number,
): AttentionKernel {
  const rows = 64;
  const isWide = channels > MOST_NARROW_CHANNELS;
  const isForward = name === 'attention';
  const direction = isForward ? '' : 'Backward';
  const file =
    scoreCap !== undefined
      ? `attentionCapped${direction}`
      : isWide
        ? 'attentionWide'
        : `attention${direction}`;
  // A block's own tiles, and those that pass by: two of each kind, or one, which is half as long in the backward pass.
  const tiles = isForward ? (isWide ? 3 : 5) : isWide ? 3 : 6;
  return {
    kernel: device.kernel(file, `${name}${scoreCap === undefined ? '' : 'Capped'}${channels}`),
    sharedBytes: tiles * rows * channels * bytesOf('bf16'),
    rows,
    parts: isWide && !isForward ? 2 : 1,
    tilesOf: (array) => array,
  };
}

/** Of a block's own rows, one or two tiles of them, of two tiles of 32 rows that pass by, and of the weights between these rows. */
function floatKernel(device: CudaDevice, name: AttentionKernelName, channels: number): AttentionKernel {
  const rows = channels > MOST_NARROW_CHANNELS ? 16 : 32;
  const own = name === 'attention' ? 1 : 2;
  const floats = own * rows * channels + 2 * 32 * channels + rows * 32;
  const kernel = device.kernel('attentionFloat', `${name}${channels}Float`);
  return { kernel, sharedBytes: bytesOf('f32') * floats, rows, parts: 1, tilesOf: (array) => array };
}

/**
 * softmax(q·kᵀ/√D)·v ⊙ σ(gate), each document by itself, and the logarithm of each row's sum of exponentials.
 * @param layout heads of a multiple of 8 channels, up to 256
 */
export function gatedAttention(
  operands: AttentionOperands,
  { y, logSumExp }: AttentionOutputs,
  layout: AttentionLayout,
  options: AttentionOptions = {},
): void {
  const { q, k, v, gate } = operands;
  checkOperands(operands, y, logSumExp, layout);
  const rows = layout.batch * layout.sequence;
  if (rows === 0) return;
  const { device } = q;
  const { heads, keyValueHeads } = layout;
  const { kernel, sharedBytes, rows: ofBlock, tilesOf } = tileKernel(q, 'attention', layout, options);
  const ranges = blockRanges(device, layout, ofBlock, false);
  const tiles = [tilesOf(q, heads), tilesOf(k, keyValueHeads), tilesOf(v, keyValueHeads)];
  const args = [gate ?? null, y, logSumExp, ranges, rows, headsOf(layout)];
  kernel.launch([ranges.length / 3, heads], sharedBytes, ...tiles, ...args);
}

export interface AttentionGradients {
  readonly dq: Activations;
  readonly dk: Activations;
  readonly dv: Activations;
  readonly dGate: Activations | undefined;
}

/** The gradients of `gatedAttention` from what it was given and gave, and dy [N, H·D]. dGate may be the gate. */
export function gatedAttentionBackward(
  operands: AttentionOperands & AttentionOutputs & { readonly dy: Activations },
  { dq, dk, dv, dGate }: AttentionGradients,
  layout: AttentionLayout,
  options: AttentionOptions = {},
): void {
  const { q, k, v, gate, y, logSumExp, dy } = operands;
  const { heads, keyValueHeads, headDim } = layout;
  checkOperands(operands, y, logSumExp, layout);
  checkOperands({ q: dq, k: dk, v: dv, gate: dGate }, dy, logSumExp, layout);
  const rows = layout.batch * layout.sequence;
  if (rows === 0) return;
  const { device } = q;
  const [dOut, delta] = [device.allocate(y.length, y.storage), device.allocate(logSumExp.length, 'f32')];
  const gateArgs = [y, gate ?? null, dy, dOut, dGate ?? null, delta, rows, heads, gatesOf(layout), headDim];
  const gateKernel = kernelFor('attentionBackward', 'attentionGate', q);
  gateKernel.launch([Math.ceil((rows * heads) / GATE_ROWS)], 0, ...gateArgs);
  const launch = (name: 'attentionKeys' | 'attentionQueries', count: number, outputs: Activations[]) => {
    const { kernel, sharedBytes, rows: ofBlock, parts, tilesOf } = tileKernel(q, name, layout, options);
    const ranges = blockRanges(device, layout, ofBlock, name === 'attentionKeys');
    const tiles = [
      ...[tilesOf(q, heads), tilesOf(k, keyValueHeads)],
      ...[tilesOf(v, keyValueHeads), tilesOf(dOut, heads)],
    ];
    const args = [logSumExp, delta, ...outputs, ranges, rows, headsOf(layout)];
    kernel.launch([ranges.length / 3, count, parts], sharedBytes, ...tiles, ...args);
  };
  launch('attentionKeys', keyValueHeads, [dk, dv]);
  launch('attentionQueries', heads, [dq]);
  for (const array of [dOut, delta]) device.free(array);
}
