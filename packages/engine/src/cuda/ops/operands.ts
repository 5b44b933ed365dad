/** What implementations of fused operations give to kernels besides activations. */

import { SluiceError } from '@sluice/core';
import { documentBounds, documentStarts, type RowLayout } from '../../ops/attentionLayout.ts';
import type { RotaryTable } from '../../ops/rotaryEmbedding.ts';
import type { Parameter } from '../../parameter.ts';
import type { CudaDevice, DeviceArray } from '../device.ts';
import { matmulTransposed } from '../operations.ts';
import { masterOf } from '../weights.ts';

/** The gradient of a linear layer's weights [O, C]: dyᵀ [O, N] · x [N, C]. */
export function contributeProduct(
  weight: Parameter,
  dy: DeviceArray<'bf16'>,
  x: DeviceArray<'bf16'>,
  tokens: number,
): void {
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

/** Of rows that tensor cores take. @throws SLUICE_E_CUDA_KERNEL */
export function checkWidths(operation: string, widths: Readonly<Record<string, number>>): void {
  for (const [name, width] of Object.entries(widths)) {
    if (width % 8 !== 0) refuse(operation, `the number of ${name}, ${width}, is no multiple of 8`);
  }
}

/** Copies that stay on the device as long as they are among those that were used last. */
class KeptCopies {
  readonly #copies = new Map<unknown, DeviceArray>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  get<A extends DeviceArray>(key: unknown, upload: () => A): A {
    const copy = (this.#copies.get(key) as A | undefined) ?? upload();
    this.#copies.delete(key);
    this.#copies.set(key, copy);
    if (this.#copies.size > this.#most) {
      const [oldest, array] = this.#copies.entries().next().value!;
      this.#copies.delete(oldest);
      array.device.free(array);
    }
    return copy;
  }
}

const MOST_COPIES = 16;
const kept = new WeakMap<CudaDevice, KeptCopies>();

function copiesOn(device: CudaDevice): KeptCopies {
  const known = kept.get(device) ?? new KeptCopies(MOST_COPIES);
  kept.set(device, known);
  return known;
}

export interface Rotation {
  readonly cosine: DeviceArray<'f32'>;
  readonly sine: DeviceArray<'f32'>;
  /** [N], of each token in its document */
  readonly position: DeviceArray<'i32'>;
}

/** What turns rows to their positions. */
export function rotationOf(device: CudaDevice, { cos, sin }: RotaryTable, rows: RowLayout): Rotation {
  const copies = copiesOn(device);
  return {
    cosine: copies.get(cos, () => device.upload(cos, 'f32')),
    sine: copies.get(sin, () => device.upload(sin, 'f32')),
    position: copies.get(documentBounds(rows).join(), () =>
      device.upload(
        documentStarts(rows).map((start, row) => row - start),
        'i32',
      ),
    ),
  };
}
