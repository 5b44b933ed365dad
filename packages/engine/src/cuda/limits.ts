/** What a launch may have at most, on every GPU; and who asks for more is told so, since a kernel would compute with other numbers. */

import { SluiceError } from '@sluice/core';
import type { Grid } from './driver.ts';

/** Blocks along the axes of a grid. */
export const MOST_BLOCKS = [2 ** 31 - 1, 65_535, 65_535] as const;
/** Whole numbers that kernels take have 31 bits and a sign. */
export const MOST_INTEGER = 2 ** 31 - 1;

/** @throws SLUICE_E_CUDA_KERNEL */
export function refuseLaunch(reason: string): never {
  throw new SluiceError(
    'SLUICE_E_CUDA_KERNEL',
    `cuda has no kernel for so much at once: ${reason}. Make batch.grainSequences or data.sequenceLength smaller.`,
  );
}

/** @throws SLUICE_E_CUDA_KERNEL for a grid that no GPU has */
export function checkGrid(kernel: string, [x, y = 1, z = 1]: Grid): void {
  const [mostX, mostY, mostZ] = MOST_BLOCKS;
  if (x > mostX || y > mostY || z > mostZ)
    refuseLaunch(`${kernel} would take ${x} × ${y} × ${z} blocks, and a GPU has ${MOST_BLOCKS.join(' × ')}`);
}

/**
 * Whole numbers of a struct, as a kernel takes them.
 * @throws SLUICE_E_CUDA_KERNEL for one that is too large
 */
export function integersOf(values: readonly number[]): Int32Array {
  for (const value of values)
    if ((value | 0) !== value) refuseLaunch(`kernels count to ${MOST_INTEGER}, and not to ${value}`);
  return Int32Array.from(values);
}
