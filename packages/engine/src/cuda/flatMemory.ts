/** Flat memory on a device. Parameters, gradients and moments of a run live as long as that, and are never given back. */

import { BLOCK_ELEMENTS, invariant } from '@sluice/core';
import type * as tf from '@tensorflow/tfjs';
import { roundToBfloat16 } from '../bfloat16.ts';
import type { FlatMemory, RoundedMemory } from '../flatMemory.ts';
import type { Precision } from '../precision.ts';
import { widened } from './backend.ts';
import { type Activations, type CudaDevice, DeviceArray } from './device.ts';
import * as arithmetic from './flatArithmetic.ts';
import { SHARE_OF_OTHERS } from './memorySizes.ts';

type DeviceFloats = DeviceArray<'f32'>;
type Rounded = DeviceArray<'bf16'>;

/** What lies in tensors, and tensors on what lies there already. */
export interface TensorMemory {
  tensor(values: DeviceFloats, shape: readonly number[]): tf.Tensor;
  floatsOf(tensor: tf.Tensor): DeviceFloats;
  /** Of activations. */
  precision(): Precision;
}

export function cudaFlatMemory(
  device: CudaDevice,
  { tensor, floatsOf, precision }: TensorMemory,
): FlatMemory<DeviceFloats> {
  let scratch = device.allocate(0, 'f64');
  /** Sums that operations leave, each so many, of which the host reads all together. */
  const sumsOf = (
    lengths: readonly number[],
    operate: (sums: DeviceArray<'f64'>, operation: number) => void,
  ): Float64Array[] => {
    let total = 0;
    const ranges = lengths.map((length) => {
      total += length;
      return [total - length, total] as const;
    });
    if (scratch.length < total) {
      device.free(scratch);
      scratch = device.allocate(total, 'f64');
    }
    for (const [operation, range] of ranges.entries()) operate(scratch.subarray(...range), operation);
    const sums = scratch.subarray(0, total).read();
    return ranges.map((range) => sums.subarray(...range));
  };
  const make = (length: number) => {
    const values = device.allocate(length, 'f32');
    arithmetic.fill(values, 0);
    return values;
  };
  return {
    make,
    makeShared: make,
    makeOnHost(length) {
      const values = device.allocateOnHost(length, 'f32');
      arithmetic.fill(values, 0);
      return values;
    },
    bytesLeft() {
      const { free, total } = device.driver.memory;
      const { allocatedBytes, usedBytes } = device.arena.statistics();
      return free + allocatedBytes - usedBytes - SHARE_OF_OTHERS * total;
    },
    join(first, second) {
      invariant(
        first.address + 4 * first.length === second.address,
        'ranges that follow each other are joined',
      );
      return new DeviceArray(device, 'f32', first.address, first.length + second.length);
    },
    read(values: Activations) {
      const read = values.read();
      return read instanceof Uint16Array ? widened(read) : read;
    },
    readInto: (values, target) => values.readInto(target),
    write(target: Activations, values) {
      target.write(target.storage === 'bf16' ? roundedOf(values) : values);
    },
    fill: arithmetic.fill,
    copy(target, source) {
      const bytes = 4 * source.length;
      if (Math.abs(target.address - source.address) >= bytes) {
        device.driver.copy(target.address, source.address, bytes);
        return;
      }
      const between = device.allocate(source.length, 'f32');
      device.driver.copy(between.address, source.address, bytes);
      device.driver.copy(target.address, between.address, bytes);
      device.free(between);
    },
    release: (values) => device.free(values),
    add: (target, source) => arithmetic.sumTree(target, [target, source]),
    addRounded: arithmetic.addRounded,
    squaredNorms: (values) =>
      sumsOf(
        values.map(({ length }) => Math.ceil(length / BLOCK_ELEMENTS)),
        (norms, i) => arithmetic.squaredNorms(norms, values[i]!),
      ),
    adamW(updates) {
      const all = sumsOf(
        updates.map(({ sums }) => sums.length),
        (sums, i) => arithmetic.adamW(updates[i]!.buffers, updates[i]!.settings, sums),
      );
      for (const [i, { sums }] of updates.entries()) sums.set(all[i]!);
    },
    tensor(values, shape) {
      invariant(values.storage === 'f32', 'what plain operations read of a parameter is in single precision');
      return tensor(values, shape);
    },
    takeTensor(target, tensor, accumulate) {
      const values = floatsOf(tensor);
      if (accumulate) arithmetic.sumTree(target, [target, values]);
      else device.driver.copy(target.address, values.address, 4 * values.length);
    },
    rounded: () => (precision() === 'bf16' ? roundedMemory(device) : undefined),
  };
}

function roundedMemory(device: CudaDevice): RoundedMemory {
  return {
    make(length) {
      const values = device.allocate(length, 'bf16');
      arithmetic.fill(values, 0);
      return values;
    },
    round: (target, source) => arithmetic.narrow(target as Rounded, source as DeviceFloats),
    readBytes: (values, target) => device.driver.read(target, (values as Rounded).address),
    writeBytes: (target, bytes) => device.driver.write((target as Rounded).address, bytes),
  };
}

function roundedOf(values: Float32Array): Uint16Array {
  const halves = new Uint16Array(values.length);
  roundToBfloat16(values, halves);
  return halves;
}
