/** Emulated GPUs of one process that send each other their memory: who waits for it is the GPU, and nobody touches it too early. */

import { consecutiveRanges } from '@sluice/collectives';
import { SluiceError } from '@sluice/core';
import type { DeviceLink, Peers, WatchLink } from '@sluice/engine';
import {
  type CudaDevice,
  cudaLinks,
  type DeviceArray,
  Emulator,
  emulatedNccl,
  flat,
  type KernelSource,
} from '@sluice/engine/cuda';
import test from 'ava';

process.env.SLUICE_CUDA = 'emulated';

interface Side {
  readonly device: CudaDevice;
  readonly link: DeviceLink;
  readonly peers: Peers;
}
type Floats = DeviceArray<'f32'>;
/** Changes how a device does things. */
type Mistake = (device: CudaDevice) => void;

interface LinkOptions {
  readonly size?: number;
  readonly plant?: Mistake;
  /** Gets the names of what the host waits for. */
  readonly waits?: string[];
  /** Is thrown by who waits for what has not come. */
  readonly lost?: Error;
}

function linkedSides({ size = 2, plant = () => {}, waits = [], lost }: LinkOptions = {}): Side[] {
  const devices = Array.from({ length: size }, () => new Emulator().device);
  const ends = devices.map(cudaLinks);
  const name = ends[0]!.newName();
  let areOpen = false;
  const watch: WatchLink = ({ name, isDone }) => ({
    get done() {
      return isDone();
    },
    wait() {
      // In one process, the first end cannot wait for the second to be there.
      if (name === 'barrier' && !areOpen) return;
      waits.push(name);
      const end = performance.now() + 10_000;
      while (!isDone()) {
        if (lost && name !== 'barrier') throw lost;
        if (performance.now() > end) throw new Error('it takes too long');
      }
    },
  });
  const sides = devices.map((device, rank) => {
    const link = ends[rank]!.open(name, rank, size, watch);
    return { device, link, peers: { ranks: [...devices.keys()], rank } };
  });
  areOpen = true;
  for (const device of devices) {
    loadKernels(device);
    plant(device);
  }
  return sides;
}

/** Who loads code waits for what is under way, which the other side has to begin first. */
function loadKernels(device: CudaDevice): void {
  const [x, y, rounded] = [device.allocate(1, 'f32'), device.allocate(1, 'f32'), device.allocate(1, 'bf16')];
  for (const array of [x, y]) flat.fill(array, 0);
  flat.scale(x, 1);
  flat.addScaled(x, y, 1);
  flat.addRounded(x, y);
  flat.sumTree(x, [x, y]);
  flat.narrow(rounded, x);
  flat.widen(x, rounded);
  for (const array of [x, y, rounded]) device.free(array);
}

const LENGTH = 600;
const slice = (rank: number, length = LENGTH) => ({ start: rank * length, end: (rank + 1) * length });
const rowsOf = (rank: number, own: number) => ({ begin: 0, end: rank === own ? 0 : LENGTH / 4 });

/** Three of each, computed just before. */
function computed({ device, peers }: Side, length: number): Floats {
  const values = device.allocate(length, 'f32');
  flat.fill(values, peers.rank + 1);
  flat.scale(values, 3);
  return values;
}

/** What is given back is written to by whoever gets it next. */
function giveBack({ device }: Side, ...arrays: Floats[]): void {
  for (const array of arrays) device.free(array);
  const next = arrays.map(({ length }) => device.allocate(length, 'f32'));
  for (const array of next) flat.fill(array, 100);
  for (const array of next) device.free(array);
}

function startRows(side: Side) {
  const { device, link, peers } = side;
  const [rows, received] = [computed(side, LENGTH), device.allocate(LENGTH, 'f32')];
  const ranges = peers.ranks.map((rank) => rowsOf(rank, peers.rank));
  return { rows, received, arrival: link.startRows(peers, rows, ranges, received, ranges, 4) };
}

/** Rows of the other side, and 1. */
function travel(side: Side): Floats {
  const { rows, received, arrival } = startRows(side);
  const sum = side.device.allocate(LENGTH, 'f32');
  flat.fill(sum, 1);
  arrival.wait();
  flat.addScaled(sum, received, 1);
  giveBack(side, rows, received);
  return sum;
}

/** The same of a side that gives its memory back without having waited, as where an error comes between. */
function abandon(side: Side): Floats {
  const { rows, received } = startRows(side);
  giveBack(side, rows, received);
  return travel(side);
}

/** Sums of all, to which everybody adds 1 to send them on. Memory for what arrives grows in between. */
function reduce(wire: 'float32' | 'bfloat16'): (side: Side) => Floats {
  return (side) => {
    const { link, peers } = side;
    const [small, large] = [computed(side, LENGTH), computed(side, 2 * LENGTH)];
    const slices = (length: number) => peers.ranks.map((rank) => slice(rank, length));
    const first = link.reduceScatter(peers, small, slices(LENGTH / 2), wire);
    const one = side.device.allocate(LENGTH, 'f32');
    flat.fill(one, 1);
    const second = link.reduceScatter(peers, large, slices(LENGTH), wire);
    // What the first one's parts came to is as large.
    giveBack(side, side.device.allocate(LENGTH / 2, 'f32'));
    for (const arrival of [first, second]) arrival.wait();
    const { start, end } = slice(peers.rank);
    flat.addScaled(large.subarray(start, end), one, 1);
    link.allGather(peers, large, slices(LENGTH)).wait();
    const sum = side.device.allocate(LENGTH, 'f32');
    flat.sumTree(sum, [large.subarray(0, LENGTH), large.subarray(LENGTH)]);
    giveBack(side, small, large, one);
    return sum;
  };
}

const PASSES: Readonly<Record<string, { pass: (side: Side) => Floats; expected: readonly number[] }>> = {
  travel: { pass: travel, expected: [7, 4] },
  abandon: { pass: abandon, expected: [7, 4] },
  reduce: { pass: reduce('float32'), expected: [20, 20] },
  reduceRounded: { pass: reduce('bfloat16'), expected: [20, 20] },
};

/** The value that all have; not a number where they differ. */
function onlyValue(array: Floats): number {
  const values = new Set(array.read());
  return values.size === 1 ? [...values][0]! : Number.NaN;
}

test.serial('what arrives is waited for by the device, and the host goes on', (t) => {
  for (const [name, { pass, expected }] of Object.entries(PASSES)) {
    const waits: string[] = [];
    const results = linkedSides({ waits }).map(pass);
    t.deepEqual(waits, [], name);
    t.deepEqual(results.map(onlyValue), expected, name);
    t.true(waits.length > 0, name);
  }
});

/** Floats of many digits and sizes, others on each rank: no order of their sum has the bits of another. */
const noise = (rank: number, length: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(1.7 * i + 2.3 * rank) * 4 ** (i % 5));

test.serial(
  'by hosts, sums and gatherings of any lengths have the bits of those that go at once to all',
  (t) => {
    const sides = linkedSides({ size: 6 });
    const grid = { hosts: 3, perHost: 2 };
    /** What all have in the end of what is added up and gathered, one stage of parameters after the other. */
    const outcome = (
      stages: readonly (readonly number[])[],
      wire: 'float32' | 'bfloat16',
      byHosts: boolean,
    ) => {
      const passes = sides.map(({ device, link, peers }) => {
        const all = byHosts ? { ...peers, grid } : peers;
        const values = stages.map((lengths) => {
          const ranges = consecutiveRanges(lengths);
          return { ranges, array: device.upload(noise(peers.rank, ranges.at(-1)!.end), 'f32') };
        });
        for (const { ranges, array } of values) link.reduceScatter(all, array, ranges, wire);
        const last = values.map(({ ranges, array }) => link.allGather(all, array, ranges));
        return { arrays: values.map(({ array }) => array), last };
      });
      return passes.map(({ arrays, last }) => {
        for (const arrival of last) arrival.wait();
        return arrays.map((array) => Buffer.from(array.read().buffer).toString('base64'));
      });
    };
    const stages = [
      [9000, 4000, 0, 20_480, 16, 3000],
      [0, 0, 0, 0, 0, 40_000],
      [20_000, 20_000, 20_000, 20_000, 20_000, 20_000],
    ];
    for (const wire of ['float32', 'bfloat16'] as const)
      t.deepEqual(outcome(stages, wire, true), outcome(stages, wire, false), wire);
  },
);

/** Mistakes of who orders streams, and the passes that show each of them. */
const MISTAKES: Readonly<Record<string, { plant: Mistake; shows: readonly string[] }>> = {
  'the stream that computes does not wait for what arrives': {
    plant: ({ driver }) => {
      driver.leaveWait = () => {};
    },
    shows: ['travel', 'abandon', 'reduce', 'reduceRounded'],
  },
  'the stream that sends does not wait for what is computed': {
    plant: ({ driver }) => {
      const { beside, moment } = driver;
      driver.beside = (...args) => {
        driver.moment = () => {
          driver.moment = moment;
          return { ...driver.moment(), precede() {} };
        };
        return beside.apply(driver, args);
      };
    },
    shows: ['travel', 'abandon', 'reduce', 'reduceRounded'],
  },
  'memory is lent again while it is sent from, or received to': {
    plant: ({ arena }) => {
      const { give } = arena;
      arena.give = (address) => {
        const { endBeside } = arena;
        arena.endBeside = () => {};
        give.call(arena, address);
        arena.endBeside = endBeside;
      };
    },
    shows: ['abandon', 'reduce', 'reduceRounded'],
  },
};

const FAULTS =
  /what another stream (reads|writes), and no event|what nobody has written|outside of device memory|not lie in one allocation/;

/** Whether a mistake shows: as a fault, or as a wrong result. */
function isFound(plant: Mistake, { pass, expected }: (typeof PASSES)[string]): boolean {
  try {
    const results = linkedSides({ plant }).map(pass);
    return results.map(onlyValue).some((value, i) => value !== expected[i]);
  } catch (error) {
    if (error instanceof SluiceError && FAULTS.test(error.message)) return true;
    throw error;
  }
}

test.serial('streams that do not wait for each other are found', (t) => {
  for (const [what, { plant, shows }] of Object.entries(MISTAKES))
    for (const name of shows) t.true(isFound(plant, PASSES[name]!), `${what}: ${name}`);
});

test.serial('a host never waits, without looking for others, for a device that does', async (t) => {
  const lost = new SluiceError('SLUICE_E_WORKER_LOST', 'rank 1 is gone');
  const waits: Record<string, (side: Side, values: Floats) => unknown> = {
    read: (_, values) => values.read(),
    synchronize: ({ device }) => device.driver.synchronize(),
    done: ({ device }) => device.driver.done(),
    'a large write': ({ device }) => device.upload(new Float32Array(20_000), 'f32'),
    'more launches than a stream takes': (_, values) => {
      for (let i = 0; i < 1000; i++) flat.scale(values, 1);
    },
  };
  for (const [what, wait] of Object.entries(waits)) {
    const [side] = linkedSides({ lost }) as [Side];
    const { received, arrival } = startRows(side);
    emulatedNccl(side.device.driver.library).calls();
    // Nobody has to wait for the device so far.
    arrival.wait();
    flat.scale(received, 2);
    side.device.upload(new Float32Array(100), 'f32');
    await t.throwsAsync(async () => wait(side, received), { is: lost }, what);
    // Nobody asks a communicator that is no more.
    t.throws(() => arrival.done, { is: lost }, what);
    t.is(emulatedNccl(side.device.driver.library).calls().aborts, 1, what);
    t.throws(() => startRows(side), { is: lost }, what);
    t.throws(() => received.read(), { is: lost }, what);
  }
});

const NEW_KERNEL: KernelSource = {
  name: 'anew',
  text: '#include "device.h"\nKERNEL(anew, 32, 1, float* x) { x[threadIdx.x] = 0; }',
};

test.serial('a host loads no code, and pins or maps no memory, while something is under way', (t) => {
  const lost = new SluiceError('SLUICE_E_WORKER_LOST', 'rank 1 is gone');
  const blocks: Record<string, (device: CudaDevice) => unknown> = {
    code: (device) => device.kernelOf(NEW_KERNEL, 'anew'),
    'a function of code that is there': (device) => device.kernel('flat', 'sumRows').load(),
    memory: (device) => device.allocateOnHost(1, 'f32'),
    'memory that the arena lacks': (device) => device.allocate(2 ** 24, 'f32'),
  };
  for (const [what, block] of Object.entries(blocks)) {
    const [side] = linkedSides({ lost }) as [Side];
    startRows(side);
    t.throws(() => block(side.device), { is: lost }, what);
  }
});
