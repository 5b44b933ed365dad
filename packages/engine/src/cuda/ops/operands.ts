/** What implementations of fused operations give to kernels besides activations. */

import { SluiceError } from '@sluice/core';
import { documentBounds, documentStarts, type RowLayout } from '../../ops/attentionLayout.ts';
import type { RotaryTable } from '../../ops/rotaryEmbedding.ts';
import type { Parameter } from '../../parameter.ts';
import { cudaBackend } from '../backend.ts';
import type { Activations, CudaDevice, DeviceArray } from '../device.ts';
import { matmulTransposed } from '../products.ts';
import { CUDA_SIZES } from '../sizes.ts';
import { masterOf } from '../weights.ts';

/** The gradient of a linear layer's weights [O, C]: dyᵀ [O, N] · x [N, C]. */
export function contributeProduct(weight: Parameter, dy: Activations, x: Activations, tokens: number): void {
  const [outputs, inputs] = weight.shape as [number, number];
  weight.contribute((target) => {
    const shape = { M: outputs, N: inputs, K: tokens };
    matmulTransposed(dy, x, masterOf(target), shape, { accumulate: target.accumulate });
  });
}

/** @throws SLUICE_E_CUDA_KERNEL where the kernels of an operation do not have what it is asked for */
export function refuse(operation: string, reason: string): never {
  throw new SluiceError('SLUICE_E_CUDA_KERNEL', `cuda has no kernel for this ${operation}: ${reason}.`);
}

/** Of rows that tensor cores take. In single precision, there may be any. @throws SLUICE_E_CUDA_KERNEL */
export function checkWidths(operation: string, widths: Readonly<Record<string, number>>): void {
  if (cudaBackend().precision === 'f32') return;
  const { rowMultiple } = CUDA_SIZES;
  for (const [name, width] of Object.entries(widths)) {
    if (width % rowMultiple !== 0)
      refuse(
        operation,
        `the number of ${name}, ${width}, is no multiple of ${rowMultiple} (precision f32 takes any)`,
      );
  }
}

export interface Rotation {
  readonly cosine: DeviceArray<'f32'>;
  readonly sine: DeviceArray<'f32'>;
  /** [N], of each token in its document */
  readonly position: DeviceArray<'i32'>;
}

/** What turns rows to their positions. */
export function rotationOf(device: CudaDevice, { cos, sin }: RotaryTable, rows: RowLayout): Rotation {
  return {
    cosine: device.copies.of(cos, () => device.upload(cos, 'f32')),
    sine: device.copies.of(sin, () => device.upload(sin, 'f32')),
    position: positionsOf(device, rows),
  };
}

/** [N]: where each token is in its document. */
export function positionsOf(device: CudaDevice, rows: RowLayout): DeviceArray<'i32'> {
  const positions = () => documentStarts(rows).map((start, row) => row - start);
  return device.copies.of(`positions in ${documentBounds(rows)}`, () => device.upload(positions(), 'i32'));
}
