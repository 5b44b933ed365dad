/** Operations of models on a device's memory, as launches of their kernels. N: tokens; C: channels. */

import { invariant } from '@sluice/core';
import { type Activations, bytesOf, type CudaDevice, type DeviceArray, kernelFor } from './device.ts';
import type { Grid } from './driver.ts';
import { sumRows } from './flatArithmetic.ts';

type Floats = DeviceArray<'f32'>;

/** Rows that a block has, one a warp. */
const ROWS_OF_BLOCK = 8;
const THREADS = 256;
/** Of `rmsNorm.cu`: tokens whose contributions to the gain's gradient are added up together. */
const ROWS_OF_PART = 64;

function rowsOf(x: Activations, width: number): number {
  const rows = x.length / width;
  invariant(Number.isInteger(rows), `${x.length} activations are no rows of ${width}`);
  return rows;
}

/**
 * y = x · r · gain with r = 1 / √(mean(x²) + ε).
 * @param x [N, C]
 * @param gain [C]
 * @param y [N, C]
 * @param inverse [N], gets r, which the gradient needs
 */
export function rmsNorm(
  x: Activations,
  gain: Floats,
  y: Activations,
  inverse: Floats,
  epsilon: number,
): void {
  const width = gain.length;
  const rows = rowsOf(x, width);
  if (rows === 0) return;
  const grid = [Math.ceil(rows / ROWS_OF_BLOCK)] as const;
  kernelFor('rmsNorm', 'rmsNorm', x).launch(grid, 0, x, gain, y, inverse, rows, width, epsilon);
}

export interface RmsNormGradients {
  /** [N, C]; may be dy. */
  readonly dx: Activations;
  /** [C]; null where nobody wants it. */
  readonly dGain: Floats | null;
  /** Whether to add to `dGain`. */
  readonly accumulate: boolean;
}

/** The gradients of `rmsNorm` from dy [N, C], x and r of each row. */
export function rmsNormBackward(
  { x, gain, dy, inverse }: { x: Activations; gain: Floats; dy: Activations; inverse: Floats },
  { dx, dGain, accumulate }: RmsNormGradients,
): void {
  const width = gain.length;
  const rows = rowsOf(x, width);
  // First what reads dy, which dx may overwrite.
  if (dGain) {
    const parts = Math.ceil(rows / ROWS_OF_PART);
    const sums = x.device.allocate(parts * width, 'f32');
    const grid = [parts, Math.ceil(width / THREADS)] as const;
    if (rows > 0) kernelFor('rmsNorm', 'rmsNormGain', x).launch(grid, 0, x, dy, inverse, sums, rows, width);
    sumRows(dGain, sums, accumulate);
    x.device.free(sums);
  }
  const grid = [Math.ceil(rows / ROWS_OF_BLOCK)] as const;
  if (rows > 0)
    kernelFor('rmsNorm', 'rmsNormBackward', x).launch(grid, 0, x, gain, dy, inverse, dx, rows, width);
}

export interface RotaryArguments {
  readonly x: Activations;
  /** [positions, D/2] each */
  readonly cosine: Floats;
  readonly sine: Floats;
  /** [N], of each token in its document */
  readonly position: DeviceArray<'i32'>;
  readonly headDim: number;
  /** Turns back, which is the gradient. */
  readonly back?: boolean;
}

/** Turns every head of x [N, heads · D] to its position; y may be x. */
export function rotaryEmbedding(
  { x, cosine, sine, position, headDim, back = false }: RotaryArguments,
  y: Activations,
): void {
  const half = headDim / 2;
  const tokens = position.length;
  const heads = tokens === 0 ? 0 : x.length / tokens / headDim;
  invariant(
    Number.isInteger(half) && Number.isInteger(heads),
    `${x.length} activations are no heads of ${headDim}`,
  );
  const pairs = x.length / 2;
  if (pairs === 0) return;
  const args = [x, cosine, sine, position, y, pairs, heads, half, Number(back)];
  kernelFor('rotaryEmbedding', 'rotaryEmbedding', x).launch([Math.ceil(pairs / THREADS)], 0, ...args);
}

/** x + y into z, which may be one of them. */
export function addResidual(x: Activations, y: Activations, z: Activations): void {
  invariant(
    x.length === y.length && x.length === z.length,
    `${x.length} + ${y.length} activations for ${z.length}`,
  );
  if (x.length === 0) return;
  kernelFor('addResidual', 'addResidual', x).launch(
    [Math.ceil(x.length / (4 * THREADS))],
    0,
    x,
    y,
    z,
    x.length,
  );
}

/** A block for the packs, 16 bytes each, of that many rows of units. */
function packGrid({ storage }: Activations, rows: number, units: number): Grid {
  const packs = Math.ceil(units / (16 / bytesOf(storage)));
  return [Math.ceil((rows * packs) / THREADS)];
}

/**
 * hidden [N, F] = silu(gate) · up of preactivations [N, 2F], the gate's first.
 * @param limit of both factors; none when 0
 */
export function swiGlu(preactivations: Activations, hidden: Activations, units: number, limit = 0): void {
  const rows = rowsOf(preactivations, 2 * units);
  invariant(hidden.length === rows * units, `${hidden.length} hidden units for ${rows} rows of ${units}`);
  if (rows === 0) return;
  const grid = packGrid(hidden, rows, units);
  kernelFor('swiGlu', 'swiGlu', hidden).launch(grid, 0, preactivations, hidden, rows, units, limit);
}

/** The way back: both outputs may take the place of the input of their shape. */
export function swiGluBackward(
  { preactivations, dHidden }: { preactivations: Activations; dHidden: Activations },
  { dPreactivations, hidden }: { dPreactivations: Activations; hidden: Activations },
  units: number,
  limit = 0,
): void {
  const rows = rowsOf(preactivations, 2 * units);
  invariant(dHidden.length === rows * units, `${dHidden.length} hidden units for ${rows} rows of ${units}`);
  if (rows === 0) return;
  const args = [preactivations, dHidden, dPreactivations, hidden, rows, units, limit];
  kernelFor('swiGlu', 'swiGluBackward', dHidden).launch(packGrid(dHidden, rows, units), 0, ...args);
}

/** Token ids on a device, and which tokens have which id. */
export interface EmbeddingTokens {
  /** [N] */
  readonly ids: DeviceArray<'i32'>;
  /** Ids that occur. */
  readonly rows: DeviceArray<'i32'>;
  /** Where each one's tokens begin in `sorted`, and where the last one's end. */
  readonly starts: DeviceArray<'i32'>;
  /** Tokens by id, those of one id in order. */
  readonly sorted: DeviceArray<'i32'>;
}

/** Brings token ids, each below the vocabulary, to a device. */
export function tokenIds(
  device: Pick<CudaDevice, 'upload'>,
  ids: Int32Array,
  vocabulary: number,
): DeviceArray<'i32'> {
  const wrong = ids.findIndex((id) => id < 0 || id >= vocabulary);
  invariant(
    wrong < 0,
    `token ${ids[wrong]} at position ${wrong} is not among the ${vocabulary} of the vocabulary`,
  );
  return device.upload(ids, 'i32');
}

/** Brings token ids with what the gradient needs. */
export function embeddingTokens(
  device: Pick<CudaDevice, 'upload'>,
  ids: Int32Array,
  vocabulary: number,
): EmbeddingTokens {
  // Numbers that are sorted by id, and then by place, without a function that compares.
  const keys = Float64Array.from(ids, (id, place) => id * ids.length + place).sort();
  const sorted = Int32Array.from(keys, (key) => key % ids.length);
  const starts: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    if (i === 0 || ids[sorted[i]!] !== ids[sorted[i - 1]!]) starts.push(i);
  }
  const upload = (values: Iterable<number>) => device.upload(Int32Array.from(values), 'i32');
  return {
    ids: tokenIds(device, ids, vocabulary),
    rows: upload(starts.map((start) => ids[sorted[start]!]!)),
    starts: upload([...starts, ids.length]),
    sorted: upload(sorted),
  };
}

/** y [N, C] = the rows of the table [V, C]. */
export function embedding(
  { ids }: Pick<EmbeddingTokens, 'ids'>,
  table: Activations,
  y: Activations,
  width: number,
): void {
  invariant(y.length === ids.length * width, `${y.length} activations for ${ids.length} tokens of ${width}`);
  if (ids.length === 0) return;
  const grid = [Math.ceil(ids.length / ROWS_OF_BLOCK)] as const;
  kernelFor('embedding', 'embedding', y).launch(grid, 0, ids, table, y, ids.length, width);
}

/** Adds the gradient of each row to `dTable` [V, C], in order of the tokens. */
export function embeddingBackward(
  tokens: EmbeddingTokens,
  dy: Activations,
  dTable: Floats,
  width: number,
): void {
  const { rows, starts, sorted } = tokens;
  invariant(
    dy.length === sorted.length * width,
    `${dy.length} gradients for ${sorted.length} tokens of ${width}`,
  );
  if (rows.length === 0) return;
  const grid = [rows.length, Math.ceil(width / THREADS)] as const;
  kernelFor('embedding', 'embeddingBackward', dy).launch(grid, 0, rows, starts, sorted, dy, dTable, width);
}
