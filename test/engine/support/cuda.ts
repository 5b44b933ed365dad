/**
 * What tests of CUDA kernels share: an emulated device, bf16 by its definition, and for some operations the largest error as a share
 * of the bound that the operation's arithmetic allows.
 */

import type { AttentionLayout } from '@sluice/engine';
import {
  type CudaDevice,
  type DeviceArray,
  Emulator,
  floatsOf,
  gatedAttention,
  gatedAttentionBackward,
  type KernelCase,
  matmul,
  matmulPlain,
  matmulTransposed,
  operandsOf,
  type ProductName,
  type ProductShape,
  productCase,
  randomArray,
  rmsNormCase,
  type Tile,
} from '@sluice/engine/cuda';

export { floatsOf, PRODUCTS, type ProductName, worstShare } from '@sluice/engine/cuda';

export const emulator = new Emulator();
export const { device } = emulator;

/** To the nearest bf16, by the definition: of the two neighbours the nearer one, or the even one. */
export function toBf16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.slice().buffer);
  return Uint16Array.from(words, (word, i) => {
    if (Number.isNaN(values[i])) return 0x7fff;
    const [below, rest] = [word >>> 16, word & 0xffff];
    if (rest === 0x8000) return below + (below & 1);
    return rest > 0x8000 ? below + 1 : below;
  });
}

export function fromBf16(bits: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(bits, (half) => half << 16).buffer);
}

/** Random activations: what lies on the device, and its values. */
export function activations<S extends 'bf16' | 'f32'>(
  on: CudaDevice,
  seed: number,
  length: number,
  storage: S,
): { array: DeviceArray<S>; values: Float32Array } {
  const array = randomArray(on, seed, length, storage);
  return { array, values: floatsOf(array) };
}

/** @param y what the product is added to, for the one that can */
export function runProduct(
  name: ProductName,
  [a, b]: readonly [DeviceArray<'bf16'>, DeviceArray<'bf16'>],
  shape: ProductShape,
  tile?: Tile,
  y?: DeviceArray<'f32'>,
): DeviceArray<'f32' | 'bf16'> {
  const length = shape.M * shape.N;
  if (name === 'matmulTransposed') {
    const target = y ?? a.device.allocate(length, 'f32');
    matmulTransposed(a, b, target, shape, { accumulate: y !== undefined, ...(tile && { tile }) });
    return target;
  }
  const target = a.device.allocate(length, 'bf16');
  (name === 'matmul' ? matmul : matmulPlain)(a, b, target, shape, tile);
  return target;
}

/** Runs a case, and gives its errors. */
export function errorsOf({ judge, run }: KernelCase): Readonly<Record<string, number>> {
  const errors = judge!();
  run();
  return errors();
}

/** A product beside the exact one. */
export function productError(
  on: CudaDevice,
  name: ProductName,
  shape: ProductShape,
  seed: number,
  tile?: Tile,
): number {
  return errorsOf(productCase(on, name, shape, { seed, tile })).y!;
}

/** The RMS norm and its gradients beside those in double precision. */
export function rmsNormErrors(
  on: CudaDevice,
  sizes: { rows: number; width: number; storage: 'bf16' | 'f32'; seed: number },
): Readonly<Record<'y' | 'dx' | 'dGain', number>> {
  const { y, dx, dGain } = errorsOf(rmsNormCase(on, sizes));
  return { y: y!, dx: dx!, dGain: dGain! };
}

/** Gradients of attention as training has them: of queries in the place of dy, and of the gate in that of its logits. */
export function gradientsInPlace(
  on: CudaDevice,
  layout: AttentionLayout,
  storage: 'bf16' | 'f32',
): [DeviceArray<'bf16' | 'f32'>, DeviceArray<'bf16' | 'f32'>] {
  const operands = operandsOf(on, layout, 1, storage);
  const [q, k, v, dy, gate] = (['q', 'k', 'v', 'dy', 'gate'] as const).map((name) => operands[name]!.array);
  const like = ({ length }: { length: number }) => on.allocate(length, storage);
  const given = { q: q!, k: k!, v: v!, gate };
  const rows = layout.batch * layout.sequence;
  const outputs = { y: like(q!), logSumExp: on.allocate(rows * layout.heads, 'f32') };
  gatedAttention(given, outputs, layout);
  const gradients = { dq: dy!, dk: like(k!), dv: like(v!), dGate: gate };
  gatedAttentionBackward({ ...given, ...outputs, dy: dy! }, gradients, layout);
  return [dy!, gate!];
}
