/** A process whose emulated GPU sends to those of others. */

import { Communicator, consecutiveRanges, receiveInvitation } from '@sluice/collectives';
import type { SluiceError } from '@sluice/core';
import { type Floats, flatMemory, selectBackend } from '@sluice/engine';
import { cudaBackend, emulatedNccl } from '@sluice/engine/cuda';
import * as tf from '@tensorflow/tfjs';
import { GroupExpertExchange } from '../../packages/train/src/expertExchange.ts';
import { FlatTransport } from '../../packages/train/src/flatTransport.ts';
import { linkDevices } from '../../packages/train/src/linkDevices.ts';

export interface FlatRequest {
  readonly groups: readonly (readonly number[])[];
  /** Of the slices of each member. */
  readonly lengths: readonly number[];
  readonly wire: 'float32' | 'bfloat16';
  readonly times: number;
}

export interface RowsRequest {
  /** From each rank to each. */
  readonly counts: readonly (readonly number[])[];
  readonly width: number;
  readonly isRounded: boolean;
}

/** Of what came by the devices and what came by way of the host. */
export interface Compared {
  readonly lengths: readonly number[];
  /** The first element that differs, if one does. */
  readonly different: object | null;
}

const communicator = await Communicator.connect(await receiveInvitation());
const { rank } = communicator;

const linked = () => linkDevices(communicator);
const calls = () => emulatedNccl(cudaBackend().device.driver.library).calls();
const groupOf = (groups: readonly (readonly number[])[]) =>
  communicator.group(groups.find((ranks) => ranks.includes(rank))!);

/** Floats of many digits and sizes, others for each rank: no order of their sum has the bits of another. */
function noise(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin(1.7 * i + 2.3 * rank) * 4 ** (i % 5));
}

function onDevice(values: Float32Array): Floats {
  const floats = flatMemory().makeShared(values.length);
  flatMemory().write(floats, values);
  return floats;
}

/** How many there are, and the first that differs, if one does. */
function compared(byDevices: readonly number[], byHost: readonly number[]): Compared {
  const at = byDevices.findIndex((value, i) => !Object.is(value, byHost[i]));
  const different = at < 0 ? null : { at, byDevices: byDevices[at], byHost: byHost[at] };
  return { lengths: [byDevices.length, byHost.length], different };
}

await communicator.serve({
  async link() {
    await selectBackend('cuda');
    return linked().description;
  },

  /** What comes of collectives on flat memory, by the devices and by way of the host: all of them under way at once. */
  flat({ groups, lengths, wire, times }: FlatRequest) {
    const group = groupOf(groups);
    // One stage of parameters after the other, each larger than the one before: memory for what arrives grows while it is used.
    let begin = 0;
    const stages = Array.from({ length: times }, (_, i) => {
      const ranges = consecutiveRanges(lengths.map((length) => (i + 1) * length));
      const shifted = ranges.map(({ start, end }) => ({ start: start + begin, end: end + begin }));
      begin = shifted.at(-1)!.end;
      return shifted;
    });
    const run = (transport: FlatTransport) => {
      const values = onDevice(noise(begin));
      for (const pending of stages.map((ranges) => transport.reduceScatter(values, ranges, wire)))
        pending.wait();
      for (const pending of stages.map((ranges) => transport.allGather(values, ranges))) pending.wait();
      return [...flatMemory().read(values)];
    };
    calls();
    const [byDevices, byHost] = [run(new FlatTransport(group, linked().link)), run(new FlatTransport(group))];
    return { ...compared(byDevices, byHost), groups: calls().groups };
  },

  /** The same of rows to experts. */
  rows({ counts, width, isRounded }: RowsRequest) {
    const group = communicator.world;
    const [sent, received] = [counts[rank]!, counts.map((row) => row[rank]!)];
    const ranges = (lengths: readonly number[]) =>
      consecutiveRanges([...lengths]).map(({ start, end }) => ({ begin: start, end }));
    const total = sent.reduce((sum, count) => sum + count, 0);
    const values = noise(total * width);
    const exact = tf.tensor2d(values, [total, width]);
    // A product of bf16 operands is bf16.
    const rows = isRounded ? roundedTensor(exact) : exact;
    const { sendRows, startRows } = new GroupExpertExchange(group, linked().link);
    const there = sendRows!(rows, ranges(sent), ranges(received));
    const onHost = new Float32Array(there.size);
    startRows(rows.dataSync() as Float32Array, ranges(sent), onHost, ranges(received), width).wait();
    return {
      ...compared([...there.dataSync()], [...onHost]),
      storage: cudaBackend().valuesOf(there).storage,
    };
  },

  /** A sum in which one rank takes no part, since it dies. @returns the errors that the others have, then and later, and calls of NCCL */
  withoutOne({ absent }: { absent: number }) {
    calls();
    const { world, size } = communicator;
    const sum = () => {
      const transport = new FlatTransport(world, linked().link);
      const ranges = consecutiveRanges(world.ranks.map(() => 2));
      transport.reduceScatter(onDevice(noise(2 * size)), ranges, 'float32').wait();
    };
    if (rank === absent) {
      // Once it has answered.
      setTimeout(() => process.kill(process.pid, 'SIGKILL'), 100);
      return null;
    }
    const errors = [0, 1].map(() => {
      try {
        sum();
        return 'none';
      } catch (error) {
        return (error as SluiceError).code;
      }
    });
    return { errors, aborts: calls().aborts };
  },
});
await communicator.close();

function roundedTensor(exact: tf.Tensor2D): tf.Tensor2D {
  const backend = cudaBackend();
  const copy = backend.device.allocate(exact.size, 'bf16');
  backend.device.driver.copy(copy.address, backend.activationsOf(exact).address, 2 * exact.size);
  return tf.engine().makeTensorFromTensorInfo(backend.adopt(copy, exact.shape)) as tf.Tensor2D;
}
