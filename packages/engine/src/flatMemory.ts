/**
 * Flat memory: where the running backend has parameters, gradients and moments, and the arithmetic on it. A host's is typed arrays;
 * that of a device is ranges of the device's memory, of which a host gets copies.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { type AdamWBuffers, type AdamWSettings, adamW } from './adamW.ts';
import { addRounded } from './bfloat16.ts';
import type { Floats } from './floats.ts';
import { copyInto, makeSharedFloats } from './memory.ts';
import { squaredNorms, sumInto } from './reductions.ts';

/** What `adamW` of the host's takes. */
export interface AdamWUpdate<Memory extends Floats = Floats> {
  readonly buffers: AdamWBuffers<Memory>;
  readonly settings: AdamWSettings;
  readonly sums: Float64Array;
}

/** What a backend offers. Ranges of one call have equal length; sums are in a fixed order, as those of `reductions.ts`. */
export interface FlatMemory<Memory extends Floats = Floats> {
  /** New memory, zeroed. */
  make(length: number): Memory;
  /** The same for what is sent: a host's other threads see it. */
  makeShared(length: number): Memory;
  /** Of a device: memory of the host that its arithmetic reaches, if slowly; zeroed. */
  makeOnHost?(length: number): Memory;
  /** Of a device: bytes that it has beside those in use. */
  bytesLeft?(): number;
  /** One range of two that follow each other in memory. */
  join(first: Memory, second: Memory): Memory;
  /** The values on the host, only to be read: the memory itself where it is the host's, otherwise a copy. */
  read(values: Memory): Float32Array;
  /** Copies the values to an array of the host. */
  readInto(values: Memory, target: Float32Array): void;
  /** Takes the values of the host. What `read` gave of a host's own memory is there already. */
  write(target: Memory, values: Float32Array): void;
  fill(target: Memory, value: number): void;
  /** Copies `source` to `target`; they may overlap. */
  copy(target: Memory, source: Memory): void;
  /** Gives back what `make` gave, where nobody else does. */
  release(values: Memory): void;
  /** Adds `source` to `target`. */
  add(target: Memory, source: Memory): void;
  /** Adds `source` to `target`, both rounded to bfloat16 before. */
  addRounded(target: Memory, source: Memory): void;
  /** As `squaredNorms` of the host's has it, of each of the ranges. Whoever asks for all at once waits for a device once. */
  squaredNorms(ranges: readonly Memory[]): Float64Array[];
  /** As `adamW` of the host's has it, one update after the other; likewise. */
  adamW(updates: readonly AdamWUpdate<Memory>[]): void;
  /** The values as a tensor of the running backend. */
  tensor(values: Memory, shape: readonly number[]): tf.Tensor;
  /** Writes a float tensor to `target`, or adds it, where that lies in the tensors' own memory. */
  takeTensor?(target: Memory, tensor: tf.Tensor, accumulate: boolean): void;
  /** Of a device: memory for weights as its activations are; undefined where these are in single precision. */
  rounded?(): RoundedMemory | undefined;
}

/**
 * Memory for weights in bf16, of which somebody has the same in single precision. `read` widens its values, and `write` rounds; nothing
 * else of flat memory takes it.
 */
export interface RoundedMemory {
  /** New memory, zeroed. */
  make(length: number): Floats;
  /** Writes the values of flat memory to `target`, rounded to nearest, of two to the even one. */
  round(target: Floats, source: Floats): void;
  /** Copies values to the host as they are, two bytes each. */
  readBytes(values: Floats, target: Uint8Array): void;
  /** The way back. */
  writeBytes(target: Floats, bytes: Uint8Array): void;
}

const host: FlatMemory<Float32Array> = {
  make: (length) => new Float32Array(length),
  makeShared: makeSharedFloats,
  join: (first, second) => new Float32Array(first.buffer, first.byteOffset, first.length + second.length),
  read: (values) => values,
  readInto: (values, target) => copyInto(target, values),
  write(target, values) {
    if (values !== target) copyInto(target, values);
  },
  fill: (target, value) => target.fill(value),
  copy: copyInto,
  release() {},
  add: sumInto,
  addRounded,
  squaredNorms: (ranges) => ranges.map((values) => squaredNorms(values)),
  adamW(updates) {
    for (const { buffers, settings, sums } of updates) adamW(buffers, settings, sums);
  },
  tensor: (values, shape) => tf.tensor(values, [...shape], 'float32'),
};

const devices = new Map<string, FlatMemory>();

/** A backend whose flat memory is a device's. */
export function registerFlatMemory<Memory extends Floats>(backend: string, memory: FlatMemory<Memory>): void {
  devices.set(backend, memory);
}

/** That of the running backend. */
export function flatMemory(): FlatMemory {
  return devices.get(tf.getBackend()) ?? host;
}

/** Flat memory as the array that it is where the running backend's is the host's: for kernels of the host. */
export function hostArray(values: Floats): Float32Array {
  invariant(values instanceof Float32Array, 'a kernel of the host takes arrays of the host');
  return values;
}

/** Values that lie in flat memory, or on the host already, as the host has them; only to be read. */
export function valuesOnHost(values: Floats): Float32Array {
  return values instanceof Float32Array ? values : flatMemory().read(values);
}

/** Changes values by arithmetic that only the host has: in place where they lie there, otherwise in a copy that goes back. */
export function changeOnHost(values: Floats, change: (values: Float32Array) => void): void {
  const memory = flatMemory();
  const onHost = memory.read(values);
  change(onHost);
  memory.write(values, onHost);
}

/** The same where the change takes its time, as reading from a file does. */
export async function changeOnHostAsync(
  values: Floats,
  change: (values: Float32Array) => Promise<void>,
): Promise<void> {
  const memory = flatMemory();
  const onHost = memory.read(values);
  await change(onHost);
  memory.write(values, onHost);
}
