/** Memory of a device, and TensorFlow.js on it: on the emulator, which watches every access. */

import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { SluiceError } from '@sluice/core';
import {
  BACKENDS,
  flatMemory,
  inSinglePrecision,
  linear,
  Parameter,
  profile,
  selectBackend,
  wallClock,
} from '@sluice/engine';
import {
  Arena,
  type ArenaDriver,
  addResidual,
  architectureOf,
  cachingCompiler,
  cudaBackend,
  type DeviceArray,
  type Emulator,
  findNvrtc,
  flat,
  masterOf,
  openBackend,
  openDevice,
  weightsOf,
} from '@sluice/engine/cuda';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import { fusedOperation, implementFused, runFused } from '../../../packages/engine/src/fused.ts';
import { buildDirectory } from '../../../packages/engine/src/native.ts';
import { emulator, floatsOf, fromBf16, toBf16 } from '../support/cuda.ts';
import { instead, isFound, type Mutant } from '../support/cudaMutants.ts';
import { randomValues, relativeError } from '../support/differential.ts';

const MIB = 2 ** 20;

/** A driver with as much memory as it says, of which there are only addresses. */
function memoryOf(
  total: number,
  mappingGranularity = 2 * MIB,
  canReserve = true,
): ArenaDriver & { mapped: number } {
  return {
    mapped: 0,
    mappingGranularity,
    watch: undefined,
    get memory() {
      return { free: total - this.mapped, total };
    },
    reserve: () => (canReserve ? 2 ** 40 : undefined),
    unreserve() {},
    map(_address, bytes) {
      if (this.mapped + bytes > total) return false;
      this.mapped += bytes;
      return true;
    },
    unmap(_address, bytes) {
      this.mapped -= bytes;
    },
    allocate: () => 2 ** 40,
    free() {},
    synchronize() {},
  };
}

/** Deterministic whole numbers below a limit. */
function numbers(seed: number): (limit: number) => number {
  const values = randomValues(seed, 1 << 16);
  let at = 0;
  return (limit) => Math.floor(((values[at++ % values.length]! + 1) / 2) * limit * 0.9999);
}

const bytes = fc.oneof(fc.nat(5000), fc.nat(3 * MIB), fc.integer({ min: MIB, max: 50 * MIB }));

test('no two allocations of an arena overlap, and all that is given back is one block again', (t) => {
  const step = fc.record({ isTake: fc.boolean(), size: bytes });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), fc.boolean(), (steps, canMap) => {
      const arena = new Arena(memoryOf(2 ** 40, canMap ? 2 * MIB : 0));
      const lent: { address: number; end: number }[] = [];
      for (const { isTake, size } of steps) {
        if (isTake) {
          const address = arena.take(size);
          const end = address + size;
          if (address % 512 !== 0 || lent.some((other) => address < other.end && other.address < end))
            return false;
          lent.push({ address, end });
        } else if (lent.length > 0) arena.give(lent.splice(size % lent.length, 1)[0]!.address);
      }
      const { usedBytes, peakUsedBytes, allocatedBytes } = arena.statistics();
      const wanted = lent.reduce((sum, { address, end }) => sum + Math.max(end - address, 1), 0);
      for (const { address } of lent) arena.give(address);
      const made = arena.statistics().buffersMade;
      // What is there is one block.
      if (allocatedBytes > 0) arena.give(arena.take(allocatedBytes));
      const isWhole = arena.statistics().buffersMade === made && arena.statistics().usedBytes === 0;
      return (
        isWhole &&
        usedBytes >= wanted &&
        usedBytes <= wanted + 512 * lent.length &&
        peakUsedBytes <= allocatedBytes
      );
    }),
    { numRuns: 100 },
  );
  t.pass();
});

/** Allocations of a pass: each layer keeps some small and some large ones, and gives others back at once; then all go, last first. */
function pass(arena: Arena, sizeOf: (layer: number, index: number) => number): number[] {
  const kept: number[] = [];
  const all: number[] = [];
  for (let layer = 0; layer < 12; layer++) {
    for (let i = 0; i < 9; i++) {
      const address = arena.take(sizeOf(layer, i));
      all.push(address);
      if (i % 3 === 0) arena.give(address);
      else kept.push(address);
    }
  }
  for (const address of kept.reverse()) arena.give(address);
  return all;
}

test('thousands of equal passes have the same addresses, and the arena does not grow', (t) => {
  const arena = new Arena(memoryOf(2 ** 40));
  const sizeOf = (layer: number, i: number) => (i % 2 === 0 ? 3000 + 512 * i : (4 + (layer % 3)) * MIB);
  const parameters = arena.take(300 * MIB);
  // The first one makes the arena as large as it must be.
  pass(arena, sizeOf);
  const first = pass(arena, sizeOf);
  const { buffersMade, allocatedBytes } = arena.statistics();
  for (let i = 0; i < 2000; i++) {
    if (!pass(arena, sizeOf).every((address, j) => address === first[j])) t.fail(`pass ${i}`);
  }
  t.is(arena.statistics().buffersMade, buffersMade);
  t.is(arena.statistics().allocatedBytes, allocatedBytes);
  t.is(arena.statistics().usedBytes, 300 * MIB);
  arena.give(parameters);
});

test('sizes that change with every pass make the arena hardly larger than what was in use at once', (t) => {
  const arena = new Arena(memoryOf(2 ** 40));
  const random = numbers(3);
  const sizeOf = (_layer: number, i: number) => (i % 2 === 0 ? 1 + random(MIB / 2) : MIB + random(40 * MIB));
  for (let i = 0; i < 300; i++) pass(arena, sizeOf);
  const { buffersMade } = arena.statistics();
  for (let i = 0; i < 3000; i++) pass(arena, sizeOf);
  const { allocatedBytes, peakUsedBytes, buffersMade: later } = arena.statistics();
  t.true(allocatedBytes < 1.15 * peakUsedBytes, `${allocatedBytes / peakUsedBytes}`);
  t.true(later - buffersMade < 20, `${later - buffersMade}`);
});

test('where the memory ends, the sizes are said, and what is given back serves again', (t) => {
  const drivers = [memoryOf(100 * MIB), memoryOf(100 * MIB, 0), memoryOf(100 * MIB, 2 * MIB, false)];
  for (const driver of drivers) {
    const arena = new Arena(driver);
    const address = arena.take(50 * MIB);
    const error = t.throws(() => arena.take(60 * MIB), {
      instanceOf: SluiceError,
      code: 'SLUICE_E_OUT_OF_MEMORY',
    });
    t.regex(
      error!.message,
      /no 60\.0 MiB more: 50\.0 MiB are in use.*of the GPU's 100\.0 MiB.*batch\.grainSequences/,
    );
    arena.give(address);
    t.notThrows(() => arena.give(arena.take(80 * MIB)));
    t.throws(() => arena.give(address), { message: /did not lend it, or twice/ });
  }
});

test.serial(
  'the emulated driver gives memory as a GPU’s does, mapped or not, and takes all of it back',
  (t) => {
    const { driver } = emulator.device;
    for (const mapsMemory of [true, false]) {
      const before = driver.memory.free;
      emulator.set({ memoryBytes: 2 ** 34 - before + 200 * MIB, mapsMemory });
      const arena = new Arena(driver);
      const addresses = [40, 0.001, 90].map((mebibytes) => arena.take(mebibytes * MIB));
      t.throws(() => arena.take(100 * MIB), { code: 'SLUICE_E_OUT_OF_MEMORY' });
      driver.write(addresses[1]!, new Float32Array(10).fill(3));
      const read = new Float32Array(10);
      driver.read(read, addresses[1]!);
      t.is(read[9], 3);
      arena.dispose();
      t.is(driver.memory.free, 200 * MIB);
      t.throws(() => driver.read(read, addresses[1]!), { message: /one allocation/ });
      emulator.set({});
    }
  },
);

test.serial('who goes beyond a part of an arena, uses it later, or reads it unwritten, is found', (t) => {
  const { device } = emulator;
  const [x, y] = [device.allocate(256, 'f32'), device.allocate(256, 'f32')];
  t.throws(() => flat.addScaled(y, x, 1), { message: /reads what nobody has written/ });
  flat.fill(x, 1);
  flat.fill(y, 1);
  const kernel = device.kernel('flat', 'scale');
  t.throws(() => kernel.launch([1], 0, x, 257, 2), {
    message:
      /reads 4 bytes outside of device memory, 1024 bytes after the begin of an allocation of 1024 bytes/,
  });
  device.free(x);
  t.throws(() => flat.scale(x, 2), { message: /outside of device memory/ });
  // The same memory, of which the next one to have it knows nothing.
  t.throws(() => flat.scale(device.allocate(256, 'f32'), 2), { message: /reads what nobody has written/ });
});

test.serial('launches can be made to do nothing, for who measures what they cost', (t) => {
  const x = emulator.device.upload(Float32Array.of(1, 2), 'f32');
  emulator.set({ runsKernels: false });
  flat.scale(x, 2);
  emulator.set({});
  t.deepEqual([...x.read()], [1, 2]);
  flat.scale(x, 2);
  t.deepEqual([...x.read()], [2, 4]);
});

test.before('cuda on the emulator', async () => {
  process.env.SLUICE_CUDA = 'emulated';
  await selectBackend('cuda');
});

/** A bf16 tensor. */
function bf16Tensor(values: Float32Array, shape: number[]): tf.Tensor {
  const { info, values: array } = cudaBackend().allocate(shape, 'bf16');
  array.write(toBf16(values));
  return tf.engine().makeTensorFromTensorInfo(info);
}

const tensorOf = (info: tf.TensorInfo) => tf.engine().makeTensorFromTensorInfo(info);

test.serial(
  'float tensors may be bf16: results are where operands are that have a say, and reading gives floats',
  (t) => {
    tf.setBackend('cuda');
    tf.tidy(() => {
      const values = Float32Array.of(1, -2.5, 3, 0.1);
      const x = bf16Tensor(values, [2, 2]);
      const rounded = floatsOf(cudaBackend().valuesOf(x));
      t.deepEqual(x.dataSync(), rounded);
      t.is(x.dtype, 'float32');
      const storage = (tensor: tf.Tensor) => cudaBackend().valuesOf(tensor).storage;
      const given = tf.tensor2d([1, 2, 3, 4], [2, 2]);
      const single = inSinglePrecision(x);
      const weight = new Parameter('weight', [2], flatMemory().make(2)).tensor;
      const alike = [
        tf.add(x, x),
        tf.neg(x),
        tf.transpose(x),
        tf.sum(x, 0),
        tf.softmax(x),
        tf.matMul(x, x),
        tf.concat([x, x]),
        tf.pad(x, [
          [0, 1],
          [0, 0],
        ]),
        // Numbers, what the host gives, constants, weights, and truth values have no say.
        tf.add(x, 1),
        tf.mul(tf.mul(given, 2), x),
        tf.concat([x, given, tf.fill([2, 2], 3)]),
        tf.matMul(given, x),
        tf.where(tf.greater(x, 0), x, tf.zerosLike(x)),
        tf.mul(x, weight),
        tf.mul(x, tf.cast(tf.greater(x, 0), 'float32')),
        tf.sub(tf.onesLike(x), x),
      ];
      t.deepEqual(alike.map(storage), Array(alike.length).fill('bf16'));
      const mixed = [
        tf.add(x, single),
        tf.concat([x, tf.add(single, 1)]),
        tf.matMul(given, single),
        tf.where(tf.greater(x, 0), x, single),
        // Of such alone.
        tf.add(given, weight),
        tf.concat([given, tf.fill([2, 2], 3)]),
      ];
      t.deepEqual(mixed.map(storage), Array(mixed.length).fill('f32'));
      t.deepEqual([...alike[10]!.dataSync()], [...rounded, 1, 2, 3, 4, 3, 3, 3, 3]);
      t.deepEqual([...alike[12]!.dataSync()], [1, 0, 3, rounded[3]]);
      t.deepEqual([...mixed[5]!.dataSync()], [1, 2, 3, 4, 3, 3, 3, 3]);
      t.deepEqual([...alike[0]!.dataSync()], [...fromBf16(toBf16(rounded.map((value) => 2 * value)))]);
      t.deepEqual([...tf.cast(x, 'int32').dataSync()], [1, -2, 3, 0]);
    });
  },
);

test.serial(
  'fused operations write over what nobody else holds, and give views of memory that stays theirs',
  (t) => {
    tf.setBackend('cuda');
    const backend = cudaBackend();
    const used = () => backend.fusedMemory.poolStatistics().usedBytes;
    const before = used();
    const x = tf.tensor1d([1, 2, 3]);
    const over = backend.allocateOver(x);
    t.is(over.values.address, backend.valuesOf(x).address);
    t.not(backend.allocateOver(x).values.address, over.values.address, 'two tensors hold it now');
    const owned = backend.device.allocate(3, 'f32');
    flat.fill(owned, 7);
    const view = tensorOf(backend.view(owned, [3]));
    t.not(backend.allocateOver(view).values.address, owned.address);
    t.deepEqual([...view.dataSync()], [7, 7, 7]);
    view.dispose();
    t.deepEqual([...owned.read()], [7, 7, 7]);
    const adopted = tensorOf(backend.adopt(owned, [3, 1]));
    t.deepEqual(adopted.shape, [3, 1]);
    adopted.dispose();
    t.throws(() => owned.read(), { message: /one allocation/ });
    tensorOf(over.info).dispose();
    x.dispose();
    t.true(used() > before, 'two allocations of allocateOver are still there');
  },
);

test.serial('a forgotten tensor is computed once more by whoever reads it', (t) => {
  tf.setBackend('cuda');
  const backend = cudaBackend();
  let rebuilt = 0;
  const make = () => {
    const { info, values } = backend.allocate([100]);
    flat.fill(values as DeviceArray<'f32'>, 5);
    return info;
  };
  const x = tensorOf(make());
  const used = backend.fusedMemory.poolStatistics().usedBytes;
  backend.forget(x);
  t.is(backend.fusedMemory.poolStatistics().usedBytes, used, 'nobody could compute it');
  backend.makeRebuildable(x, () => {
    rebuilt++;
    backend.restore(x, make());
  });
  backend.forget(x);
  t.true(backend.fusedMemory.poolStatistics().usedBytes < used);
  const twice = tf.add(x, x);
  t.deepEqual([...twice.dataSync()].slice(0, 2), [10, 10]);
  t.is(rebuilt, 1);
  backend.restore(x, make());
  t.is(rebuilt, 1);
  tf.dispose([x, twice]);
});

/** What the gradient of the operation below found saved. */
const found: number[] = [];

/** x + a, of which the gradient keeps what it needs in every way that there is. */
const shifted = fusedOperation<{ shift: number }>({
  name: 'TestShifted',
  inputsToSave: ['x'],
  rebuildable: true,
});
implementFused('cuda', shifted, {
  forward({ attributes, input, shape, output, recording, saved }) {
    const x = input('x');
    const constant = x.device.upload(toBf16(new Float32Array(x.length).fill(attributes.shift)), 'bf16');
    const y = output(shape('x'));
    addResidual(x, constant, y.values);
    x.device.free(constant);
    if (recording) flat.fill(saved.floats('ones', x.length), 1);
    return y.info;
  },
  backward({ over, saved, valuesOf }, [dy], [x]) {
    const ones = saved.floats('ones');
    found.push(...ones.read());
    const dx = over(dy!);
    addResidual(valuesOf(dy!), valuesOf(x!), dx.values);
    return { x: dx.tensor };
  },
});
test.serial(
  'a fused operation is implemented for cuda as for native: bf16 in, bf16 out, gradients too',
  (t) => {
    tf.setBackend('cuda');
    // Which the device keeps.
    tf.tidy(() => tf.mul(tf.add(tf.range(0, 3), 2), 1));
    const tensors = tf.memory().numDataBuffers;
    const used = cudaBackend().fusedMemory.poolStatistics().usedBytes;
    const x = tf.tensor1d([1, 2.001, -3]);
    const apply = (value: tf.Tensor) =>
      runFused<{ shift: number }, tf.Tensor1D>(shifted, { x: value }, { shift: 10 });
    const y = apply(x);
    t.deepEqual([...y.dataSync()], [11, 12, 7]);
    // 2 · dy + x, of which x was rounded to bf16.
    const { value, grads } = tf.valueAndGrads((operand: tf.Tensor) => tf.sum(tf.mul(apply(operand), 2)))([x]);
    t.deepEqual([...grads[0]!.dataSync()], [3, 4, -1]);
    t.deepEqual(found, [1, 1, 1]);
    tf.dispose([x, y, value, grads]);
    t.is(tf.memory().numDataBuffers, tensors);
    t.is(cudaBackend().fusedMemory.poolStatistics().usedBytes, used);
  },
);

test.serial('tensors of another backend come along, of any type, and go back', (t) => {
  tf.setBackend('cpu');
  const tensors = [
    tf.tensor1d([1.5, -2]),
    tf.tensor1d([7, 2 ** 30 + 1], 'int32'),
    tf.tensor1d([1, 0], 'bool'),
    tf.tensor1d(['a', 'ö']),
  ];
  const values = tensors.map((tensor) => [...tensor.dataSync()]);
  for (const name of ['cuda', 'cpu']) {
    tf.setBackend(name);
    const numbers = tensors.slice(0, 3).map((tensor) => tf.reverse(tf.reverse(tensor)));
    t.deepEqual(
      numbers.map((copy) => [...copy.dataSync()]),
      values.slice(0, 3),
    );
    t.deepEqual([...tf.concat([tensors[3]!, tensors[3]!]).dataSync()], ['a', 'ö', 'a', 'ö']);
    tf.dispose(numbers);
  }
  tf.setBackend('cuda');
  const complex = tf.complex([1, 2], [3, 4]);
  t.deepEqual([...complex.clone().dataSync()], [1, 3, 2, 4]);
  t.deepEqual([...tf.imag(complex).dataSync()], [3, 4]);
  tf.dispose([...tensors, complex]);
});

test.serial('values can be awaited while others work, and time is the device’s', async (t) => {
  tf.setBackend('cuda');
  const x = tf.tensor1d([1, 2, 3]);
  const tensors = tf.memory().numDataBuffers;
  let ran = false;
  void setImmediate().then(() => {
    ran = true;
  });
  const promise = tf.square(x).data();
  x.dispose();
  t.deepEqual([...(await promise)], [1, 4, 9]);
  await setImmediate();
  t.true(ran);
  t.is(tf.memory().numDataBuffers, tensors);
  const { kernelMs } = (await tf.time(() => tf.square(2).dispose())) as { kernelMs: number };
  t.true(kernelMs >= 0);
});

test.serial(
  'a profile tells what the device takes for each operation, and which kernels run outside of them',
  async (t) => {
    const { device } = cudaBackend();
    const gain = device.upload(new Float32Array(8).fill(1), 'f32');
    const spans: { name: string; start: number; end: number }[] = [];
    const { entries, totalMs, isOnDevice } = await profile(
      () => {
        tf.tidy(() => tf.sum(tf.mul(tf.ones([4, 8]), 2)).dataSync());
        for (let i = 0; i < 2; i++) flat.scale(gain, 0.5);
      },
      wallClock,
      ({ name }, start, end) => spans.push({ name, start, end }),
    );
    device.free(gain);
    t.true(isOnDevice);
    const told = (name: string) => entries.find((entry) => entry.name === name)!;
    for (const name of ['Multiply', 'Sum', 'scale']) t.true(told(name).kernelMs > 0, name);
    t.like(told('scale'), { pass: undefined, calls: 2, javascriptMs: 0 });
    t.true(entries.reduce((sum, { kernelMs }) => sum + kernelMs, 0) < totalMs);
    const inOrder = spans.map(({ name }) => name);
    t.deepEqual(inOrder.slice(inOrder.indexOf('Multiply')), ['Multiply', 'Sum', 'scale', 'scale']);
    for (const [i, { start, end }] of spans.entries())
      t.true(end > start && start >= (spans[i - 1]?.end ?? 0));
    t.is(device.driver.launchWatch, undefined);
  },
);

test.serial('what has no kernel is computed on the host, which is said once', async (t) => {
  tf.setBackend('cuda');
  const said: string[] = [];
  const listen = ({ message }: Error) => said.push(message);
  process.on('warning', listen);
  for (let i = 0; i < 3; i++)
    t.is(
      tf.tidy(() => tf.cosh(tf.scalar(0)).dataSync()[0]),
      1,
    );
  await setImmediate();
  process.off('warning', listen);
  t.deepEqual(said.filter((message) => message.startsWith('cuda: Cosh')).length, 1);
});

test.serial('a parameter that is released gives back its values and what was made of them', (t) => {
  const usedBytes = () => cudaBackend().device.arena.statistics().usedBytes;
  const before = usedBytes();
  const parameter = Parameter.filled('weight', [8, 8], 1);
  weightsOf(parameter);
  t.is(parameter.tensor.size, 64);
  t.true(usedBytes() >= before + 64 * (4 + 2));
  parameter.release();
  t.is(usedBytes(), before);
});

test.serial('weights that are kept in bf16 are read as they are, and by nothing in single precision', (t) => {
  tf.setBackend('cuda');
  const memory = flatMemory();
  const numbers = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i));
  const [kept, widened] = [memory.rounded!()!.make(64), memory.make(64)];
  memory.write(kept, numbers);
  memory.write(widened, memory.read(kept));
  const [rounded, single] = [kept, widened].map((values) => new Parameter('weight', [8, 8], values));
  t.is(weightsOf(rounded!).address, (kept as DeviceArray).address);
  t.deepEqual(rounded!.hostValues, single!.hostValues);
  t.deepEqual(weightsOf(single!).read(), weightsOf(rounded!).read());
  const x = tf.tensor2d(numbers.slice(0, 16), [2, 8]);
  const results = [rounded!, single!].map((weight) => linear(x, weight, 'results').dataSync());
  t.deepEqual(results[0], results[1]);
  for (const read of [() => masterOf(rounded!), () => rounded!.onTape(), () => linear(x, rounded!, 'single')])
    t.throws(read, { message: /single precision/ });
});

test.serial('functions are right to the last digits, and defined everywhere', (t) => {
  tf.setBackend('cuda');
  const grid = Float32Array.from({ length: 2001 }, (_, i) => ((i - 1000) / 1000) ** 3 * 80);
  const special = [
    0,
    1,
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    88.5,
    -100,
    0.5,
    3,
  ];
  const x = Float32Array.from([...grid, ...special]);
  const worst = (actual: ArrayLike<number>, exact: (i: number) => number) =>
    x.reduce((most, _, i) => {
      const expected = exact(i);
      // Below the smallest normal number results are zero.
      if (
        Object.is(actual[i], expected) ||
        actual[i] === Math.fround(expected) ||
        Math.abs(expected) < 1.6e-38
      )
        return most;
      return Math.max(
        most,
        Math.abs(actual[i]! / expected - 1) ||
          (Number.isNaN(actual[i]) === Number.isNaN(expected) ? 0 : Infinity),
      );
    }, 0);
  tf.tidy(() => {
    const of = tf.tensor1d(x);
    const error = (y: tf.Tensor, exact: (value: number) => number) =>
      worst(y.dataSync(), (i) => exact(x[i]!));
    t.true(error(tf.exp(of), Math.exp) < 7e-7);
    t.true(error(tf.log(of), Math.log) < 1e-7);
    t.true(error(tf.log1p(of), Math.log1p) < 1e-7);
    t.true(error(tf.rsqrt(of), (value) => 1 / Math.sqrt(value)) < 2e-7);
    t.is(
      error(tf.round(of), (value) =>
        Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value),
      ),
      0,
    );
    for (const power of [2, -3, 0.5, 0, 1.7, 5]) {
      t.true(error(tf.pow(of, power), (value) => value ** Math.fround(power)) < 1e-7, `${power}`);
    }
  });
});

test.serial('no order of blocks and threads changes a bit of TensorFlow.js’s operations', (t) => {
  tf.setBackend('cuda');
  const compute = () =>
    tf.tidy(() => {
      const x = tf.tensor(randomValues(1, 70 * 45), [70, 45]);
      const y = tf.mul(tf.sigmoid(x), tf.mean(x, 0));
      const long = tf.tensor(randomValues(2, 9001));
      const results = [
        y,
        tf.sum(y, 0),
        tf.sum(y, 1),
        tf.softmax(y),
        tf.sum(long),
        tf.matMul(y, x, true),
        tf.topk(y, 7).values,
        tf.argMax(y, 0),
        tf.unsortedSegmentSum(y, tf.range(0, 70, 1, 'int32').mod(tf.scalar(9, 'int32')), 9),
      ];
      return results.map((result) => Buffer.from(result.dataSync().slice().buffer).toString('hex'));
    });
  const forward = compute();
  for (const order of ['backward', 'shuffled'] as const) {
    emulator.set({ order });
    t.deepEqual(compute(), forward);
  }
  emulator.set({});
});

/** An operation's values on a device of its own. */
function valuesOn(
  on: Emulator,
  kernelName: string,
  inputs: Record<string, { shape: number[]; values: Float32Array }>,
  attrs: object,
): Float32Array {
  const backend = openBackend({ device: on.device, architecture: 'emulated', description: '' });
  const infos = Object.entries(inputs).map(([name, { shape, values }]) => [
    name,
    backend.upload(values, shape),
  ]);
  const call = { inputs: Object.fromEntries(infos), attrs: attrs as tf.NamedAttrMap, backend };
  const { dataId } = tf.getKernel(kernelName, 'cuda').kernelFunc(call) as tf.TensorInfo;
  return backend.readSync(dataId) as Float32Array;
}

/** Errors beside double precision, as a share of what single precision may do. */
const product = (on: Emulator): number => {
  const [M, K, N] = [19, 37, 18];
  const [a, b] = [randomValues(1, M * K), randomValues(2, K * N)];
  const inputs = { a: { shape: [M, K], values: a }, b: { shape: [K, N], values: b } };
  const exact = Float32Array.from({ length: M * N }, (_, i) =>
    a
      .subarray(Math.floor(i / N) * K, (Math.floor(i / N) + 1) * K)
      .reduce((sum, x, k) => sum + x * b[k * N + (i % N)]!, 0),
  );
  const attrs = { transposeA: false, transposeB: false };
  return relativeError(valuesOn(on, 'BatchMatMul', inputs, attrs), exact) / 1e-6;
};
const sum = (on: Emulator): number => {
  const values = randomValues(3, 2 * 9000);
  const exact = [0, 1].map((row) =>
    values.subarray(row * 9000, (row + 1) * 9000).reduce((total, x) => total + x, 0),
  );
  const actual = valuesOn(on, 'Sum', { x: { shape: [2, 9000], values } }, { axis: 1, keepDims: false });
  return relativeError(actual, exact) / 1e-5;
};
const softmax = (on: Emulator): number => {
  const values = randomValues(4, 50, 60);
  const exponentials = values.map((x) => Math.exp(x - 60));
  const total = exponentials.reduce((all, x) => all + x, 0);
  const actual = valuesOn(on, 'Softmax', { logits: { shape: [1, 50], values } }, { dim: -1 });
  return (
    relativeError(
      actual,
      exponentials.map((x) => x / total),
    ) / 2e-6
  );
};

const MUTANTS: readonly Mutant[] = [
  {
    what: 'no barrier before a tile is read',
    file: 'batchMatMul',
    plant: instead('      __syncthreads();\n      const int depth', '      const int depth'),
    error: product,
  },
  {
    what: 'no barrier before the next tile is written',
    file: 'batchMatMul',
    plant: instead(/sum\);\n {6}__syncthreads\(\);/, 'sum);'),
    error: product,
  },
  {
    what: 'a tile that goes beyond k',
    file: 'batchMatMul',
    plant: instead('m < of.M && k + column < of.K', 'm < of.M'),
    error: product,
  },
  {
    what: 'lanes left out of a sum',
    file: 'reduceAxis',
    plant: instead('distance = LANES / 2', 'distance = LANES / 4'),
    error: sum,
  },
  {
    what: 'parts that overlap',
    file: 'reduceAxis',
    plant: instead('task.part * of.partLength', 'task.part * (of.partLength - 1)'),
    error: sum,
  },
  {
    what: 'exponentials without the largest logit',
    file: 'softmax',
    plant: instead('expOf(loadFloat(x, from, begin + i) - largest)', 'expOf(loadFloat(x, from, begin + i))'),
    error: softmax,
  },
];

test.serial('mistakes planted in kernels of TensorFlow.js’s operations are found, and none without', (t) => {
  for (const error of [product, sum, softmax]) t.true(error(emulator) <= 1);
  for (const mutant of MUTANTS) t.true(isFound(mutant), mutant.what);
});

test('machine code is compiled once for each kind of GPU and source, and found without a compiler', (t) => {
  const compiled: string[] = [];
  const compilerOf = (version: string, architecture: string, driverVersion = 13000) =>
    cachingCompiler(architecture, driverVersion, () => ({
      version,
      compilerFor: () => ({
        compile: ({ text }) => {
          compiled.push(`${version} ${architecture} ${text}`);
          return Buffer.from(text);
        },
      }),
    }));
  // Of this run: what is compiled stays.
  const source = (text: string) => ({ name: 'cacheTest', text: `${text} ${process.pid} ${Math.random()}` });
  const [one, other] = [source('one'), source('other')];
  for (const _ of [1, 2]) {
    t.is(Buffer.from(compilerOf('13.5', 'sm_90a').compile(one)).toString(), one.text);
    compilerOf('12.9', 'sm_80', 12080).compile(one);
    // A newer driver takes an older compiler's machine code, but not the other way round.
    compilerOf('13.5', 'sm_80').compile(one);
    compilerOf('12.9', 'sm_90a', 12080).compile(one);
    compilerOf('12.9', 'sm_80').compile(other);
  }
  t.deepEqual(
    compiled.map((line) => line.split(' ').slice(0, 3).join(' ')),
    ['13.5 sm_90a one', '12.9 sm_80 one', '12.9 sm_90a one', '12.9 sm_80 other'],
  );
  const missing = cachingCompiler('sm_90a', 13000, () => {
    throw new SluiceError('SLUICE_E_CUDA', 'There is no compiler.');
  });
  t.is(Buffer.from(missing.compile(one)).toString(), one.text);
  t.throws(() => missing.compile(other), { message: 'There is no compiler.' });
  const folder = join(buildDirectory, 'cuda');
  for (const file of readdirSync(folder)) if (file.startsWith('cacheTest-')) rmSync(join(folder, file));
});

test.serial('without a GPU it is said what is missing', async (t) => {
  process.env.SLUICE_CUDA = '';
  const absence = BACKENDS.cuda.absence();
  process.env.SLUICE_CUDA = 'emulate';
  t.regex(BACKENDS.cuda.absence()!, /"emulate", and may be "emulated" or "emulated-hopper"/);
  t.throws(() => openDevice(), { code: 'SLUICE_E_CUDA', message: /"emulate"/ });
  process.env.SLUICE_CUDA = 'emulated-hopper';
  const hopper = openDevice();
  t.true(hopper.device.isHopper);
  t.regex(hopper.description, /emulated on the CPU, those of a Hopper/);
  process.env.SLUICE_CUDA = 'emulated';
  t.true(absence === undefined || /no NVIDIA driver that can be opened/.test(absence));
  t.is(BACKENDS.cuda.absence(), undefined);
  t.throws(() => findNvrtc(11040), { code: 'SLUICE_E_CUDA', message: /NVRTC 11 or older.*was not found/ });
  t.deepEqual(
    [
      [8, 0],
      [8, 9],
      [9, 0],
      [10, 0],
      [12, 0],
    ].map(([major, minor]) => architectureOf({ major: major!, minor: minor! })),
    ['sm_80', 'sm_89', 'sm_90a', 'sm_100a', 'sm_120'],
  );
  t.throws(() => architectureOf({ major: 7, minor: 5 }), { code: 'SLUICE_E_CUDA', message: /7\.5/ });
});
