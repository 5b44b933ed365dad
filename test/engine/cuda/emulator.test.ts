/** What the emulator finds, and how it adds. */

import { readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import {
  CudaDriver,
  cubinKernels,
  type DeviceArray,
  flat,
  type KernelSource,
  kernelFiles,
  kernelSource,
  Nvrtc,
  resourcesOf,
  signatures,
} from '@sluice/engine/cuda';
import test from 'ava';
import { activations, device, emulator, floatsOf, fromBf16, runProduct, toBf16 } from '../support/cuda.ts';
import { randomValues } from '../support/differential.ts';

const mistakes: KernelSource = {
  name: 'mistakes',
  text: readFileSync(new URL('mistakes.cu', import.meta.url), 'utf8'),
};
const THREADS = 64;

const FAULTS: Readonly<
  Record<string, { expected: RegExp; shared?: number; blocks?: number; x?: 'written' | 'unwritten' }>
> = {
  withoutBarrier: {
    expected: /(reads|writes) what thread \d+ of the block (reads|writes), and no barrier/,
    shared: 256,
  },
  withOneBarrierTooFew: {
    expected: /writes what thread \d+ of the block reads, and no barrier/,
    shared: 256,
  },
  withBarrierOfWarp: {
    expected: /(reads|writes) what thread \d+ of the block (reads|writes), and no barrier/,
    shared: 256,
  },
  acrossBlocks: { expected: /writes what thread \d+ of another block writes/, blocks: 2 },
  beyondTheEnd: {
    expected:
      /writes 4 bytes outside of device memory, 256 bytes after the begin of an allocation of 256 bytes/,
  },
  unwritten: { expected: /thread ([89]|[1-6]\d) .*reads what nobody has written/, shared: 256 },
  unwrittenMemory: { expected: /reads what nobody has written/, x: 'unwritten' },
  misaligned: { expected: /no multiple of 16 bytes/ },
  barrierInBranch: { expected: /threads wait for others that never come/ },
  exchangeInBranch: { expected: /threads wait for others that never come/ },
  differentOperations: { expected: /lanes of a warp meet at different operations/ },
  productInBranches: { expected: /an operation of a warp in another branch than other lanes/ },
  callInBranches: { expected: /an operation of a warp in another branch than other lanes/, x: 'written' },
  barrierInBranches: { expected: /a barrier of the block in another branch than other threads/ },
  moreSharedMemory: {
    expected: /uses 512 bytes of shared memory, but the launch asked for 256/,
    shared: 256,
  },
  copyNotWaitedFor: { expected: /reads what a copy has not brought yet/, shared: 1024, x: 'written' },
  copyOverAnother: { expected: /writes what a copy is bringing/, shared: 1024, x: 'written' },
  writtenWhileCopied: { expected: /writes what a copy is bringing/, shared: 1024, x: 'written' },
  changedWhileCopied: {
    expected: /waits for a copy of what was changed since it began/,
    shared: 1024,
    x: 'written',
  },
  copyOfAnother: {
    expected: /(reads|writes) what thread \d+ of the block (reads|writes), and no barrier/,
    shared: 1024,
    x: 'written',
  },
};

function launchMistake(name: string): DeviceArray<'f32'> {
  const { shared = 0, blocks = 1, x } = FAULTS[name] ?? { shared: 256 };
  const y = device.allocate(THREADS, 'f32');
  const more = x === undefined ? [] : [device.allocate(THREADS, 'f32')];
  if (x === 'written') flat.fill(more[0]!, 1);
  device.kernelOf(mistakes, name).launch([blocks], shared, y, ...more);
  return y;
}

test('each kind of mistake is named, with the thread and the line of the kernel', (t) => {
  for (const [name, { expected }] of Object.entries(FAULTS)) {
    const error = t.throws(
      () => launchMistake(name),
      { instanceOf: SluiceError, code: 'SLUICE_E_CUDA', message: expected },
      name,
    );
    t.regex(error!.message, new RegExp(`${name}, thread \\d+ of block \\(\\d, 0, 0\\)`));
  }
  // Where a place in the code is at fault, it is named.
  const line = mistakes.text.split('\n').findIndex((text) => text.startsWith('KERNEL(beyondTheEnd')) + 1;
  t.throws(() => launchMistake('beyondTheEnd'), { message: new RegExp(`\\(mistakes\\.cu:${line}\\)`) });
});

test('a fault in any order of threads leaves the device fit for the next launch', (t) => {
  for (const order of ['backward', 'shuffled'] as const) {
    emulator.set({ order });
    for (const name of ['withoutBarrier', 'withOneBarrierTooFew', 'acrossBlocks'])
      t.throws(() => launchMistake(name));
  }
  emulator.set({});
  t.deepEqual([...launchMistake('rightWithBarrierOfWarp').read()].slice(0, 4), [1, 0, 3, 2]);
});

/** What a tensor core makes of c + Σ a·b, in whole numbers: terms cut to 2^(largest exponent − bits), the sum cut to a float. */
function tensorCoreSum(a: Float32Array, b: Float32Array, c: number, bits: number): number {
  const exponentOf = (x: number) => (x === 0 ? -126 : Math.max(Math.floor(Math.log2(Math.abs(x))), -126));
  const terms = Array.from(a, (x, i) => ({
    value: x * b[i]!,
    exponent: x * b[i]! === 0 ? -126 : exponentOf(x) + exponentOf(b[i]!),
  }));
  terms.push({ value: c, exponent: exponentOf(c) });
  const unit = 2 ** (Math.max(...terms.map(({ exponent }) => exponent)) - bits);
  const sum = terms.reduce((total, { value }) => total + Math.trunc(value / unit), 0) * unit;
  const spacing = 2 ** (exponentOf(sum) - 23);
  return Math.trunc(sum / spacing) * spacing;
}

test('matrix instructions add as the published models of tensor cores do', (t) => {
  const rows = 16;
  const scales = [1, 1, 2 ** 12, 2 ** -20];
  for (const seed of [1, 2, 3]) {
    const K = 32;
    const bits = () =>
      toBf16(randomValues(seed + 9, rows * K).map((x, i) => x * scales[(i * 7 + seed) % 4]!));
    const [a, b] = [bits(), toBf16(randomValues(seed, rows * K).map((x, i) => (i % 5 === 0 ? 0 : x)))];
    const [left, right] = [fromBf16(a), fromBf16(b)];
    const onDevice = [device.upload(a, 'bf16'), device.upload(b, 'bf16')] as const;
    // Operands lie across k.
    const at = (values: Float32Array, row: number, from: number, count: number) =>
      Float32Array.from({ length: count }, (_, k) => values[(from + k) * rows + row]!);
    for (const [arithmetic, group, fraction] of [
      ['ampere', 8, 24],
      ['hopper', 16, 25],
    ] as const) {
      emulator.set({ arithmetic });
      const y = runProduct('matmulTransposed', onDevice, { M: rows, N: rows, K });
      const expected = Float32Array.from({ length: rows * rows }, (_, i) => {
        const [m, n] = [Math.floor(i / rows), i % rows];
        let sum = 0;
        for (let k = 0; k < K; k += group)
          sum = tensorCoreSum(at(left, m, k, group), at(right, n, k, group), sum, fraction);
        return sum;
      });
      t.deepEqual(floatsOf(y), expected);
    }
  }
  emulator.set({});
});

test('sums of a tensor core are cut, so that a long sum of positive numbers is a little low', (t) => {
  const [rows, K] = [8, 4096];
  const values = fromBf16(toBf16(randomValues(1, K).map((x) => 1 + x / 2)));
  const exact = values.reduce((sum, value) => sum + value * value, 0);
  const operand = device.upload(
    toBf16(Float32Array.from({ length: rows * K }, (_, i) => values[Math.floor(i / rows)]!)),
    'bf16',
  );
  const lower = (['exact', 'ampere', 'hopper'] as const).map((arithmetic) => {
    emulator.set({ arithmetic });
    const y = runProduct('matmulTransposed', [operand, operand], { M: rows, N: rows, K });
    return 1 - floatsOf(y)[0]! / exact;
  });
  emulator.set({});
  t.true(Math.abs(lower[0]!) < 1e-6);
  for (const share of lower.slice(1)) t.true(share > 1e-6 && share < 1e-4);
});

test('the emulated driver refuses what a GPU’s would', (t) => {
  const { driver } = device;
  t.throws(() => driver.free(4096), {
    message: /cuMemFree failed with CUDA_ERROR_INVALID_VALUE: no allocation begins there/,
  });
  const array = device.allocate(4, 'f32');
  t.throws(() => driver.write(array.address, new Float32Array(5)), {
    message: /cuMemcpyHtoDAsync failed with .*one allocation/,
  });
  t.throws(() => driver.loadModule(Buffer.from('/nowhere.so\0'), 'flat.cu'), {
    message: /cuModuleLoadData of flat\.cu failed with CUDA_ERROR_INVALID_IMAGE/,
  });
  t.throws(() => new CudaDriver('libnone.so.1'), {
    code: 'SLUICE_E_CUDA',
    message: /libnone\.so\.1 cannot be opened/,
  });
  t.throws(
    () =>
      device.kernelOf({ name: 'wrong', text: 'KERNEL(wrong, 32, 1, float* y) { y = nothing; }' }, 'wrong'),
    {
      code: 'SLUICE_E_CUDA',
      message: /cannot be compiled for the emulator/,
    },
  );
  const kernel = device.kernel('flat', 'scale');
  t.throws(() => kernel.launch([1], 0, array, 4), { message: /scale takes 3 arguments, and got 2/ });
  t.throws(() => kernel.launch([1], 0, device.allocate(4, 'bf16'), 4, 1), { message: /argument 0 of scale/ });
  t.throws(() => kernel.launch([0], 0, array, 4, 1), { message: /no grid has such a size/ });
  t.throws(() => array.subarray(2, 5), { message: /elements 2 to 5 of 4/ });
});

test('every kernel’s parameters are understood, and what runs is what they say', (t) => {
  for (const file of kernelFiles()) {
    for (const { name, threads, parameters } of signatures(kernelSource(file)).values()) {
      t.true(threads % 32 === 0 && threads <= 1024, name);
      t.true(parameters.length > 0, name);
    }
  }
  const { array } = activations(device, 1, 8, 'f32');
  device.free(array);
  t.throws(() => flat.scale(array, 2), { message: /outside of device memory/ });
});

test('arguments are those that the machine code takes, wherever it has them', (t) => {
  const text = `#include "device.h"
struct Pair { int a, b; };
KERNEL(pairs, 32, 1, float* y, int a, Pair pair, uint64 b) {
  if (threadIdx.x == 0) y[0] = static_cast<float>(a + pair.a * 10 + pair.b * 100 + static_cast<int>(b) * 1000);
}`;
  const pairs = device.kernelOf({ name: 'pairs', text }, 'pairs');
  const y = device.allocate(1, 'f32');
  t.throws(() => pairs.launch([1], 0, y, 1, Int32Array.of(2), 4), {
    message: /pairs got arguments of 8, 4, 4, 8 bytes, where its parameters have 8, 4, 8, 8/,
  });
  pairs.launch([1], 0, y, 1, Int32Array.of(2, 3), 4);
  t.is(y.read()[0], 4321);
});

test('machine code says what its kernels need, and so does the compiler’s log', (t) => {
  // NVRTC 13.5, for: KERNEL(double2, 32, 1, float* y) { y[threadIdx.x] *= 2; }  and one with a table of 64 words.
  const cubin = readFileSync(new URL('two.sm_80.cubin', import.meta.url));
  const [framed, doubled] = cubinKernels(cubin);
  t.like(framed, { name: 'framed', frameBytes: 256 });
  t.like(doubled, { name: 'double2', registers: 8, frameBytes: 0, threads: 32 });
  t.deepEqual(doubled!.parameters, [{ place: 0, bytes: 8 }]);
  t.true(doubled!.codeBytes > 0);
  t.throws(() => cubinKernels(cubin.subarray(4)), { message: /an ELF file/ });
  const log = `ptxas info    : Compiling entry function 'double2' for 'sm_80'
ptxas info    : Function properties for double2
ptxas         .     16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]`;
  t.deepEqual(resourcesOf(log), [
    { name: 'double2', registers: 8, spillStores: 4, spillLoads: 8, stack: 16 },
  ]);
  t.throws(() => new Nvrtc('libnone.so'), {
    code: 'SLUICE_E_CUDA',
    message: /NVRTC cannot be opened as libnone\.so/,
  });
});
