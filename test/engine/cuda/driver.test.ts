/** What a driver refuses, of the emulator's, by its own functions: as NVIDIA's header says it of each. */

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { cxxCompiler } from '@sluice/engine';
import { CudaDriver, cacheFolder, driverFunctions, Emulator, explained } from '@sluice/engine/cuda';
import test from 'ava';
import koffi from 'koffi';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';

const emulator = new Emulator();
const { device } = emulator;
const { driver } = device;
const functions = driverFunctions(koffi.load(driver.library));

const [INVALID_VALUE, INVALID_CONTEXT, INVALID_HANDLE] = [1, 201, 400];

const handle = () => new BigUint64Array(1);
function made(create: (into: BigUint64Array) => number): bigint {
  const into = handle();
  if (create(into) !== 0) throw new Error('it is not made');
  return into[0]!;
}
const stream = made((into) => functions.cuStreamCreate(into, 1));
const event = (flags = 0) => made((into) => functions.cuEventCreate(into, flags));
const recorded = (flags = 0) => {
  const of = event(flags);
  functions.cuEventRecord(of, stream);
  return of;
};
const elapsed = (begin: bigint, end: bigint) => functions.cuEventElapsedTime(new Float32Array(1), begin, end);

test.serial('times are those of events that note them, were recorded, and were come to', (t) => {
  t.is(elapsed(recorded(), recorded()), 0);
  t.is(elapsed(recorded(2), recorded()), INVALID_HANDLE);
  t.is(elapsed(recorded(), event()), INVALID_HANDLE);
});

test.serial('what was destroyed, or never was, is no event and no stream', (t) => {
  const gone = recorded();
  t.is(functions.cuEventDestroy(gone), 0);
  t.is(functions.cuEventQuery(gone), INVALID_HANDLE);
  t.is(functions.cuEventDestroy(gone), INVALID_HANDLE);
  t.is(functions.cuEventRecord(event(), 0), INVALID_HANDLE);
  t.is(functions.cuMemsetD32Async(0, 0, 0, 0), INVALID_HANDLE);
});

test.serial('fills begin at a multiple of what they are filled with', (t) => {
  const { address } = device.allocate(16, 'f32');
  t.is(functions.cuMemsetD32Async(address + 2, 0, 1, stream), INVALID_VALUE);
  t.is(functions.cuMemsetD16Async(address + 1, 0, 1, stream), INVALID_VALUE);
  t.is(functions.cuMemsetD16Async(address + 2, 0, 1, stream), 0);
});

test.serial(
  'memory is mapped to where addresses were reserved, as what was asked for, and unmapped as a whole',
  (t) => {
    const STEP = 2 ** 21;
    const properties = Int32Array.of(1, 0, 1, 0, 0, 0, 0, 0);
    const access = Int32Array.of(1, 0, 3);
    const create = (of = properties) => functions.cuMemCreate(handle(), STEP, of, 0);
    // The host's, another device's, and with handles for other processes.
    for (const [place, value] of [
      [2, 2],
      [3, 1],
      [1, 1],
      [0, 0],
    ] as const)
      t.is(create(properties.with(place, value)), INVALID_VALUE);
    const memory = made((into) => functions.cuMemCreate(into, STEP, properties, 0));
    const range = made((into) => functions.cuMemAddressReserve(into, 2 * STEP, 0, 0, 0));
    t.is(functions.cuMemMap(range + BigInt(2 * STEP), STEP, 0, memory, 0), INVALID_VALUE);
    t.is(functions.cuMemMap(range + 4096n, STEP, 0, memory, 0), INVALID_VALUE);
    t.is(functions.cuMemMap(range, STEP, 0, memory, 0), 0);
    t.is(functions.cuMemSetAccess(range, 2 * STEP, access, 1), INVALID_VALUE);
    t.is(functions.cuMemSetAccess(range, STEP, access.with(2, 1), 1), INVALID_VALUE);
    t.is(functions.cuMemSetAccess(range, STEP, access, 1), 0);
    t.is(functions.cuMemAddressFree(range, 2 * STEP), INVALID_VALUE);
    t.is(functions.cuMemUnmap(range, 2 * STEP), INVALID_VALUE);
    t.is(functions.cuMemUnmap(range, STEP), 0);
    t.is(functions.cuMemRelease(memory), 0);
    t.is(functions.cuMemAddressFree(range, 2 * STEP), 0);
  },
);

test.serial(
  'a kernel that every card is to run asks for no more shared memory than the smallest has',
  (t) => {
    const kernel = device.kernel('flat', 'scale');
    t.notThrows(() => kernel.load(99 * 1024));
    t.throws(() => kernel.load(99 * 1024 + 16), { code: 'SLUICE_E_CUDA', message: /attribute 8 cannot be/ });
  },
);

test.serial('arguments go by a pointer to each, since only the driver knows where a kernel has them', (t) => {
  const kernel = device.kernel('flat', 'scale').load();
  // In one block, of which the driver is told where it is and how much it has.
  const packed = new BigUint64Array(5);
  t.is(
    functions.cuLaunchKernel(kernel, 1, 1, 1, 256, 1, 1, 0, stream, 0, koffi.address(packed)),
    INVALID_VALUE,
  );
});

test.serial('a thread without a context is refused', (t) => {
  const context = made((into) => functions.cuDevicePrimaryCtxRetain(into, 0));
  t.is(functions.cuCtxSetCurrent(0), 0);
  try {
    t.is(functions.cuEventCreate(handle(), 0), INVALID_CONTEXT);
    t.is(functions.cuStreamSynchronize(stream), INVALID_CONTEXT);
  } finally {
    t.is(functions.cuCtxSetCurrent(context), 0);
  }
  t.is(functions.cuStreamSynchronize(stream), 0);
});

test.serial(
  'what was written may be changed at once, also where a device reads the host’s memory itself',
  (t) => {
    emulator.set({ readsHostPages: true });
    try {
      const another = new Emulator().device;
      const values = Float32Array.of(1, 2, 3);
      const array = another.upload(values, 'f32');
      values.fill(0);
      t.deepEqual([...array.read()], [1, 2, 3]);
    } finally {
      emulator.set({});
    }
  },
);

test.serial('who is told of an earlier kernel’s failure is told how to find it', (t) => {
  t.regex(explained('an illegal memory access', 700), /^an illegal memory access; .*CUDA_LAUNCH_BLOCKING=1/);
  t.is(explained('out of memory', 2), 'out of memory');
  process.env.CUDA_LAUNCH_BLOCKING = '1';
  t.is(explained('an illegal memory access', 700), 'an illegal memory access');
  delete process.env.CUDA_LAUNCH_BLOCKING;
});

test.serial('a failure says whether it is the device’s own', (t) => {
  const text = '#include "device.h"\nKERNEL(beyond, 32, 1, float* y) { y[threadIdx.x + 32] = 0; }';
  const kernel = device.kernelOf({ name: 'beyond', text }, 'beyond');
  const failed = t.throws(() => kernel.launch([1], 0, device.allocate(32, 'f32')), {
    instanceOf: SluiceError,
  });
  t.deepEqual(failed!.details, { result: 'CUDA_ERROR_LAUNCH_FAILED', isOfDevice: true });
  const refused = t.throws(() => driver.free(4096), { instanceOf: SluiceError });
  t.deepEqual(refused!.details, { result: 'CUDA_ERROR_INVALID_VALUE', isOfDevice: false });
});

test.serial('who is told that machine code does not load is told where it is kept', (t) => {
  for (const code of [200, 209, 222])
    t.is(
      explained('device kernel image is invalid', code),
      `device kernel image is invalid; the machine code is damaged, or the driver is older than what compiled it. Delete ${cacheFolder}, ` +
        'where it is kept, so that it is compiled anew, or install a newer driver',
    );
});

test.serial('a driver that is too old is refused by its version, not by a function that it lacks', (t) => {
  const library = join(temporaryDirectory(t), 'libcuda.so');
  const { command } = cxxCompiler()!;
  const source = 'extern "C" int cuDriverGetVersion(int* version) { return *version = 11080, 0; }';
  execFileSync(command, ['-shared', '-fPIC', '-x', 'c++', '-', '-o', library], { input: source });
  t.throws(() => new CudaDriver(library), {
    code: 'SLUICE_E_CUDA',
    message:
      'The NVIDIA driver takes CUDA 11.8 at most, and the kernels need 12.0: install driver 525 or newer.',
  });
});
