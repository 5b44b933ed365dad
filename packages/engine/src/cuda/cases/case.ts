/**
 * What runs kernels to see whether they are right and how fast they are: operands of random numbers, and results beside those of
 * double precision. Tests, the GPU kit and `bench kernels` share the cases.
 */

import { widened } from '../backend.ts';
import { type Activations, bytesOf, type CudaDevice, type DeviceArray } from '../device.ts';
import type { Storage } from '../kernelSource.ts';

/** Where operands come from: a device, or what is borrowed of one. */
export type DeviceMemory = Pick<CudaDevice, 'allocate' | 'upload'>;

/** Memory for a case, which is given back all at once. */
export class BorrowedMemory implements DeviceMemory {
  readonly #device: CudaDevice;
  readonly #taken: DeviceArray[] = [];

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  readonly allocate: CudaDevice['allocate'] = (length, storage) =>
    this.#note(this.#device.allocate(length, storage));

  readonly upload: CudaDevice['upload'] = (values, storage) =>
    this.#note(this.#device.upload(values, storage));

  #note<A extends DeviceArray>(array: A): A {
    this.#taken.push(array);
    return array;
  }

  giveBack(): void {
    for (const array of this.#taken.splice(0)) this.#device.free(array);
  }
}

/** Results on the host, by name. */
export type Outputs = Readonly<Record<string, NodeJS.TypedArray>>;

/** The largest error of each result, as a share of what the arithmetic allows: below 1 where the kernel is right. */
export type Errors = Readonly<Record<string, number>>;

export interface KernelCase {
  /** Launches it once. */
  readonly run: () => void;
  readonly outputs: () => Outputs;
  /** Floating-point operations of a run (a fused multiply-add counts two), where arithmetic is the limit. */
  readonly flops?: number;
  /** Bytes that a run reads and writes at least, where memory is the limit. */
  readonly bytes?: number;
  /** Computes, before the run, in double precision what is to come of it; and tells after it how far off the results are. */
  readonly judge?: () => () => Errors;
}

/** Reads results, by name. */
export function outputsOf(arrays: Readonly<Record<string, DeviceArray>>): Outputs {
  return Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, array.read()]));
}

/** Of activations. */
export type ActivationStorage = Activations['storage'];

/** Half a unit in the last place of a bf16, relative to the value. */
export const BF16_ROUNDING = 2 ** -8;

/** Of a value that is rounded once; of a float, a whole unit. */
export function roundingOf(storage: Storage): number {
  return storage === 'bf16' ? BF16_ROUNDING : 2 ** -23;
}

/** Deterministic numbers in [-scale, scale). */
export function randomValues(seed: number, length: number, scale = 1): Float32Array {
  const values = new Float32Array(length);
  let state = (seed * 2654435761 + 12345) >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = scale * (state / 0x80000000 - 1);
  }
  return values;
}

/** To the nearest bf16, of two the even one. */
export function toBf16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.slice().buffer);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    halves[i] = Number.isNaN(values[i]!) ? 0x7fff : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return halves;
}

/** Random numbers are made so many at a time, and repeated beyond: a card's arrays are larger than a host is fast. */
const MADE = 2 ** 20;

/** A new array of random numbers. */
export function randomArray<S extends 'bf16' | 'f32'>(
  on: DeviceMemory,
  seed: number,
  length: number,
  storage: S,
  scale = 1,
): DeviceArray<S> {
  const array = on.allocate(length, storage);
  const made = randomValues(seed, Math.min(length, MADE), scale);
  const first = array.subarray(0, made.length) as DeviceArray;
  first.write(storage === 'bf16' ? toBf16(made) : made);
  const { driver } = array.device;
  for (let at = made.length; at < length; at += made.length) {
    const count = Math.min(made.length, length - at);
    driver.copy(array.subarray(at).address, array.address, count * bytesOf(storage));
  }
  return array;
}

/** Whole numbers below `limit`, scattered. */
export function scattered(length: number, limit: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => (i * 7919 + (i >> 4)) % limit);
}

/** The values of an array as numbers: those of bf16 as floats, others as they are. */
function numbersOf(array: DeviceArray<Storage>): Exclude<ReturnType<typeof array.read>, Uint16Array> {
  const values = array.read();
  return values instanceof Uint16Array ? widened(values) : values;
}

/** The values of an array as floats. */
export function floatsOf(array: DeviceArray<Storage>): Float32Array {
  const values = numbersOf(array);
  return values instanceof Float32Array ? values : Float32Array.from(values);
}

/** The largest |actual − expected| / bound; infinity where one of both is no number. */
export function worstShare(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: (i: number) => number,
): number {
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] === expected[i] || (Number.isNaN(actual[i]!) && Number.isNaN(expected[i]!))) continue;
    const share = Math.abs(actual[i]! - expected[i]!) / bound(i);
    if (!(share <= worst)) worst = Number.isNaN(share) ? Number.POSITIVE_INFINITY : share;
  }
  return worst;
}

/** Of a result that is rounded once to its storage, from a value that is off by `relative` and a bit. */
export function roundedTo(storage: Storage, relative = 0): (value: number) => number {
  const rounding = (storage === 'bf16' ? BF16_ROUNDING : 2 ** -24) + relative;
  return (value) => 1.01 * rounding * Math.abs(value) + 1e-30;
}

/** Holds arrays against values in double precision, each with its bound. */
export function judged(
  entries: Readonly<
    Record<string, { array: DeviceArray; expected: ArrayLike<number>; bound: (i: number) => number }>
  >,
): () => Errors {
  return () =>
    Object.fromEntries(
      Object.entries(entries).map(([name, { array, expected, bound }]) => [
        name,
        worstShare(numbersOf(array), expected, bound),
      ]),
    );
}

/** In double precision. */
export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
