/** Attention's kernels with Hopper's own instructions (`cuda/attentionHopper.h`), which have the bits of those by `mma.sync`. */

import type { AttentionLayout } from '../ops/attentionLayout.ts';
import type { AttentionKernel, AttentionKernelName } from './attentionKernel.ts';
import { bytesOf, type CudaDevice } from './device.ts';

/** Rows of a tile, and of a block, which has two consumers. */
const [ROWS, BLOCK_ROWS] = [64, 128];
/** A struct's size is a multiple of this, where tiles begin at such. Barriers take a part of one. */
const ALIGNMENT = 1024;
const BARRIER_BYTES = 256;
/** What comes with each query that passes by, in floats: the logarithm of its sum, and delta. */
const OF_QUERY = 2;
/** In both backward passes tiles that pass by are half as long, where they have so many channels. */
const WIDE = 256;

/** Channels of the narrowest tiles: one row of the copy engine's. */
export const LEAST_HOPPER_CHANNELS = 64;

/** The kernel for a layout with tiles of so many channels. */
export function hopperKernel(
  device: CudaDevice,
  name: AttentionKernelName,
  { headDim, scoreCap }: AttentionLayout,
  channels: number,
): AttentionKernel {
  const isWide = channels === WIDE;
  const isForward = name === 'attention';
  const capped = scoreCap === undefined ? '' : 'Capped';
  const boxRows = isWide && !isForward ? ROWS / 2 : ROWS;
  const stages = isForward ? (isWide ? 2 : 4) : isWide ? 3 : 4;
  // Own rows, of one kind or two, and pairs of tiles that pass by.
  const lines = (isForward ? BLOCK_ROWS : 2 * BLOCK_ROWS) + stages * 2 * boxRows;
  const tileBytes = lines * channels * bytesOf('bf16');
  const queryBytes = name === 'attentionKeys' ? stages * boxRows * OF_QUERY * bytesOf('f32') : 0;
  const file = `attention${capped}${isForward ? '' : 'Backward'}Hopper`;
  return {
    kernel: device.kernel(file, `${name}${capped}Hopper${channels}`),
    sharedBytes: tileBytes + Math.ceil((queryBytes + BARRIER_BYTES) / ALIGNMENT) * ALIGNMENT,
    rows: BLOCK_ROWS,
    parts: isWide && name === 'attentionKeys' ? 2 : 1,
    // Heads are rows of a matrix, of which there is one for each token.
    tilesOf: (array, heads) =>
      device.tensorMaps.of(
        array,
        { rows: heads, columns: headDim, count: array.length / heads / headDim },
        1,
        boxRows,
      ),
  };
}
