/** A process whose emulated GPU sends to those of others. */

import { Communicator, consecutiveRanges, receiveInvitation, type WorkerLimits } from '@sluice/collectives';
import type { SluiceError } from '@sluice/core';
import {
  type DeviceLink,
  exchangedExperts,
  exchangedExpertsReference,
  type Floats,
  flatMemory,
  type Precision,
  selectBackend,
} from '@sluice/engine';
import { cudaBackend, emulatedNccl, Nccl } from '@sluice/engine/cuda';
import type * as tf from '@tensorflow/tfjs';
import { GroupExpertExchange } from '../../packages/train/src/expertExchange.ts';
import { FlatTransport } from '../../packages/train/src/flatTransport.ts';
import { linkDevices } from '../../packages/train/src/linkDevices.ts';
import { type Operation, operand, runOperation, sameBits } from '../engine/support/differential.ts';
import { waitsIn } from '../engine/support/waits.ts';

export interface FlatRequest {
  readonly groups: readonly (readonly number[])[];
  /** Of the slices of each member. */
  readonly lengths: readonly number[];
  readonly wire: 'float32' | 'bfloat16';
  readonly times: number;
}

export interface ExpertsRequest {
  /** Rows of each rank for each expert of all, in order. */
  readonly counts: readonly (readonly number[])[];
  readonly channels: number;
  readonly precision: Precision;
}

/** Of what came by the devices and what came by way of the host. */
export interface Compared {
  readonly lengths: readonly number[];
  /** The first element that differs, if one does. */
  readonly different: object | null;
}

const limits = JSON.parse(process.env.TEST_LIMITS ?? '{}') as Partial<WorkerLimits>;
const communicator = await Communicator.connect({ ...(await receiveInvitation()), limits });
const { rank } = communicator;

const linked = () => linkDevices(communicator);
const calls = () => emulatedNccl(cudaBackend().device.driver.library).calls();

/** Bytes that this rank's device has sent, by the receiver. */
let sentTo: number[] = [];
const { exchange } = Nccl.prototype;
Nccl.prototype.exchange = function (communicator, transfers, stream) {
  for (const { peer, send } of transfers) sentTo[peer] = (sentTo[peer] ?? 0) + send.bytes;
  exchange.call(this, communicator, transfers, stream);
};

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

  /** What comes of sums and gatherings, these of floats and of what is rounded, by the devices and by way of the host: all under way at once. */
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
    const memory = flatMemory().rounded!()!;
    const run = (link?: DeviceLink) => {
      const transport = new FlatTransport(group, link);
      const values = onDevice(noise(begin));
      for (const pending of stages.map((ranges) => transport.reduceScatter(values, ranges, wire)))
        pending.wait();
      for (const pending of stages.map((ranges) => transport.allGather(values, ranges))) pending.wait();
      const rounded = memory.make(begin);
      memory.round(rounded, onDevice(noise(begin)));
      const ofRounded = new FlatTransport(group, link, memory);
      for (const pending of stages.map((ranges) => ofRounded.allGather(rounded, ranges))) pending.wait();
      return [...flatMemory().read(values), ...flatMemory().read(rounded)];
    };
    calls();
    sentTo = new Array(communicator.size).fill(0);
    const [byDevices, byHost] = [run(linked().link), run()];
    return { ...compared(byDevices, byHost), groups: calls().groups, sentTo };
  },

  /** What experts that all share, and their gradients, are by the devices and by way of the host: as if all rows were where their experts are. */
  async experts({ counts, channels, precision }: ExpertsRequest) {
    await selectBackend('cuda', precision);
    const { world, size } = communicator;
    const own = Int32Array.from(counts[rank]!);
    const experts = own.length / size;
    const operands = {
      x: operand(10 + rank, [own.reduce((a, b) => a + b, 0), channels]),
      gateUp: operand(20 + rank, [experts, 2 * channels, channels]),
      down: operand(30 + rank, [experts, channels, channels]),
    };
    const outcome = (compute: typeof exchangedExperts, link?: DeviceLink) => {
      const exchange = new GroupExpertExchange(world, link);
      const { startRows: start, startOnDevice } = exchange;
      const operation: Operation = ({ x, gateUp, down }) => {
        const received = exchange.startCounts(own);
        const travel = { rank, peers: size, counts: own, received, start, startOnDevice };
        return compute(x!.onTape() as tf.Tensor2D, { ...travel, gateUp: gateUp!, down: down! });
      };
      return runOperation('cuda', operation, operands, size);
    };
    const expected = outcome(exchangedExpertsReference);
    calls();
    let byDevices = expected;
    const waits = await waitsIn(cudaBackend().device.driver, () => {
      byDevices = outcome(exchangedExperts, linked().link);
    });
    const { groups } = calls();
    return {
      byDevices: sameBits(byDevices, expected),
      byHost: sameBits(outcome(exchangedExperts), expected),
      ...{ groups, waits },
    };
  },

  /**
   * A sum in which one rank takes no part, be it that it dies.
   * @returns the errors that the others have, then and later, and calls of NCCL
   */
  withoutOne({ absent, dies }: { absent: number; dies: boolean }) {
    calls();
    const { world, size } = communicator;
    const sum = () => {
      const transport = new FlatTransport(world, linked().link);
      const ranges = consecutiveRanges(world.ranks.map(() => 2));
      const values = onDevice(noise(2 * size));
      // The device waits; whoever reads what it has waits for the device.
      transport.reduceScatter(values, ranges, 'float32').wait();
      flatMemory().read(values);
    };
    if (rank === absent) {
      // Once it has answered.
      if (dies) setTimeout(() => process.kill(process.pid, 'SIGKILL'), 100);
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
