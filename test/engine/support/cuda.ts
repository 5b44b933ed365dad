/**
 * What tests of CUDA kernels share: an emulated device, bf16, and for each operation a comparison with double precision, whose
 * result is the largest error as a share of the bound that the operation's arithmetic allows.
 */

import {
  type CudaDevice,
  type DeviceArray,
  Emulator,
  matmul,
  matmulPlain,
  matmulTransposed,
  type ProductShape,
  rmsNorm,
  rmsNormBackward,
  type Storage,
  type Tile,
} from '@sluice/engine/cuda';
import { randomValues } from './differential.ts';

export const emulator = new Emulator();
export const { device } = emulator;

/** Half a unit in the last place of a bf16, relative to the value. */
export const BF16_ROUNDING = 2 ** -8;

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
  const values = randomValues(seed, length);
  if (storage === 'f32') return { array: on.upload(values, 'f32') as unknown as DeviceArray<S>, values };
  const bits = toBf16(values);
  return { array: on.upload(bits, 'bf16') as unknown as DeviceArray<S>, values: fromBf16(bits) };
}

export function floatsOf(array: DeviceArray<Storage>): Float32Array {
  const values = array.read();
  return array.storage === 'bf16' ? fromBf16(values as Uint16Array) : Float32Array.from(values);
}

/** The largest |actual − expected| / bound; infinity where a value is no number. */
export function worstShare(
  actual: Float32Array,
  expected: ArrayLike<number>,
  bound: (i: number) => number,
): number {
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const share = Math.abs(actual[i]! - expected[i]!) / bound(i);
    if (!(share <= worst)) worst = Number.isNaN(share) ? Number.POSITIVE_INFINITY : share;
  }
  return worst;
}

export const PRODUCTS = {
  /** Strides of the operands along (row, k), and of the second along (column, k). */
  matmul: { left: ({ K }: ProductShape) => [K, 1], right: ({ K }: ProductShape) => [K, 1] },
  matmulPlain: { left: ({ K }: ProductShape) => [K, 1], right: ({ N }: ProductShape) => [1, N] },
  matmulTransposed: { left: ({ M }: ProductShape) => [1, M], right: ({ N }: ProductShape) => [1, N] },
};
export type ProductName = keyof typeof PRODUCTS;

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

/**
 * A product beside the exact one. Each of K/16 steps cuts up to 17 terms to 24 bits below the largest, and the result may be
 * rounded to bf16.
 */
export function productError(
  on: CudaDevice,
  name: ProductName,
  shape: ProductShape,
  seed: number,
  tile?: Tile,
): number {
  const { M, N, K } = shape;
  const a = activations(on, seed, M * K, 'bf16');
  const b = activations(on, seed + 1, N * K, 'bf16');
  const before = name === 'matmulTransposed' ? activations(on, seed + 2, M * N, 'f32') : undefined;
  const y = runProduct(name, [a.array, b.array], shape, tile, before?.array);
  const [[row, k], [column, l]] = [PRODUCTS[name].left(shape), PRODUCTS[name].right(shape)] as [
    [number, number],
    [number, number],
  ];
  const [exact, sizes] = [new Float64Array(M * N), new Float64Array(M * N)];
  for (let i = 0; i < M * N; i++) {
    const [m, n] = [Math.floor(i / N), i % N];
    for (let step = 0; step < K; step++) {
      const term = a.values[m * row + step * k]! * b.values[n * column + step * l]!;
      exact[i]! += term;
      sizes[i]! += Math.abs(term);
    }
    exact[i]! += before?.values[i] ?? 0;
  }
  const cut = 17 * Math.ceil(K / 16) * 2 ** -24;
  const rounding = name === 'matmulTransposed' ? 2 ** -23 : BF16_ROUNDING;
  return worstShare(
    floatsOf(y),
    exact,
    (i) => cut * (sizes[i]! + 1e-30) + rounding * 1.01 * (Math.abs(exact[i]!) + sizes[i]! * cut) + 1e-30,
  );
}

/** The RMS norm and its gradients beside those in double precision; bounds count the roundings of a sum and of the results. */
export function rmsNormErrors(
  on: CudaDevice,
  { rows, width, storage, seed }: { rows: number; width: number; storage: 'bf16' | 'f32'; seed: number },
): { y: number; dx: number; dGain: number } {
  const epsilon = 1e-6;
  const x = activations(on, seed, rows * width, storage);
  const dy = activations(on, seed + 1, rows * width, storage);
  const gain = activations(on, seed + 2, width, 'f32');
  const before = activations(on, seed + 3, width, 'f32');
  const [y, dx] = [on.allocate(rows * width, storage), on.allocate(rows * width, storage)];
  const inverse = on.allocate(rows, 'f32');
  const dGain = on.allocate(width, 'f32').write(before.values);
  rmsNorm(x.array, gain.array, y, inverse, epsilon);
  const forward = { x: x.array, gain: gain.array, dy: dy.array, inverse };
  rmsNormBackward(forward, { dx, dGain, accumulate: true });

  const expected = { y: new Float64Array(rows * width), dx: new Float64Array(rows * width) };
  const [dGains, gainSizes] = [Float64Array.from(before.values), Float64Array.from(before.values, Math.abs)];
  const sizes = new Float64Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const at = (i: number) => row * width + i;
    let [square, dot, dotSize] = [0, 0, 0];
    for (let i = 0; i < width; i++) square += x.values[at(i)]! ** 2;
    const r = 1 / Math.sqrt(square / width + epsilon);
    for (let i = 0; i < width; i++) {
      const term = dy.values[at(i)]! * gain.values[i]! * x.values[at(i)]!;
      dot += term;
      dotSize += Math.abs(term);
    }
    for (let i = 0; i < width; i++) {
      const [value, gradient] = [x.values[at(i)]!, dy.values[at(i)]!];
      expected.y[at(i)] = value * r * gain.values[i]!;
      expected.dx[at(i)] = r * (gradient * gain.values[i]! - (value * r * r * dot) / width);
      sizes[at(i)] = r * (Math.abs(gradient * gain.values[i]!) + (Math.abs(value) * r * r * dotSize) / width);
      dGains[i]! += gradient * value * r;
      gainSizes[i]! += Math.abs(gradient * value * r);
    }
  }
  // A lane's sum, the tree above it, and the steps after it.
  const single = (Math.ceil(width / 32) + 5 + 8) * 2 ** -24;
  const result = storage === 'bf16' ? BF16_ROUNDING * 1.01 : 0;
  return {
    y: worstShare(floatsOf(y), expected.y, (i) => (single + result) * Math.abs(expected.y[i]!) + 1e-30),
    dx: worstShare(
      floatsOf(dx),
      expected.dx,
      (i) => single * sizes[i]! + result * Math.abs(expected.dx[i]!) + 1e-30,
    ),
    dGain: worstShare(floatsOf(dGain), dGains, (i) => (rows + width / 32 + 13) * 2 ** -24 * gainSizes[i]!),
  };
}
