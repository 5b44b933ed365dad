/** Flat memory on the emulated device, against that of the host. */

import { BLOCK_ELEMENTS } from '@sluice/core';
import { type FlatMemory, flatMemory, hostArray, roundToBfloat16, selectBackend } from '@sluice/engine';
import { cudaFlatMemory } from '@sluice/engine/cuda';
import test from 'ava';
import { SETTINGS } from '../support/adamW.ts';
import { device } from '../support/cuda.ts';
import { randomValues, relativeError } from '../support/differential.ts';

const noTensors = () => {
  throw new Error('no tensors here');
};
const outside = { tensor: noTensors, floatsOf: noTensors };
const onDevice: FlatMemory = cudaFlatMemory(device, { ...outside, precision: () => 'bf16' });

/** Updates a range of the memory, and changes it by whatever there is. @returns what is in it in the end */
function changed(memory: FlatMemory) {
  const length = BLOCK_ELEMENTS + 300;
  const [parameters, gradients] = [memory.makeShared(length), memory.makeShared(length)];
  const moments = memory.make(2 * length);
  const [firstMoment, secondMoment] = [moments.subarray(0, length), moments.subarray(length)];
  memory.write(parameters, randomValues(1, length));
  memory.write(gradients, randomValues(2, length));
  memory.fill(gradients.subarray(5, 9), -3);
  memory.add(gradients, parameters);
  memory.addRounded(gradients.subarray(0, 1000), parameters.subarray(16, 1016));
  const [squares, ofNone, ofFew] = memory.squaredNorms([
    gradients,
    gradients.subarray(0, 0),
    gradients.subarray(0, 9),
  ]);
  const sums = [new Float64Array(4), new Float64Array(2)] as const;
  const part = (begin: number, end: number) => ({
    parameters: parameters.subarray(begin, end),
    gradients: gradients.subarray(begin, end),
    firstMoment: firstMoment.subarray(begin, end),
    secondMoment: secondMoment.subarray(begin, end),
  });
  memory.adamW([
    { buffers: part(0, length - 20), settings: SETTINGS, sums: sums[0] },
    { buffers: part(length - 20, length), settings: { ...SETTINGS, step: 9 }, sums: sums[1] },
  ]);
  const into = new Float32Array(length);
  memory.readInto(gradients, into);
  const joined = memory.join(firstMoment, secondMoment);
  return {
    parameters: memory.read(parameters).slice(),
    gradients: into,
    moments: memory.read(joined).slice(),
    squares: Float64Array.of(...squares!, ...ofNone!, ...ofFew!),
    sums: Float64Array.of(...sums[0], ...sums[1]),
  };
}

test.serial(
  'flat memory of a device has the bits of the host’s, its sums of squares to rounding',
  async (t) => {
    await selectBackend('native');
    const host = changed(flatMemory());
    const there = changed(onDevice);
    for (const name of ['parameters', 'gradients', 'moments'] as const)
      t.deepEqual(there[name], host[name], name);
    for (const name of ['squares', 'sums'] as const) {
      const error = relativeError(Float32Array.from(there[name]), Float32Array.from(host[name]));
      t.true(error < 1e-6, `${name}: ${error}`);
    }
    t.throws(() => hostArray(onDevice.make(1)), { message: /arrays of the host/ });
  },
);

test.serial('rounded memory holds what is nearest of values, two bytes each', (t) => {
  const values = Float32Array.of(1, -0, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 3.4e38, ...randomValues(5, 3000));
  const halves = new Uint16Array(values.length);
  roundToBfloat16(values, halves);
  const nearest = new Float32Array(Uint32Array.from(halves, (half) => half * 0x10000).buffer);
  const memory = onDevice.rounded!()!;
  const single = onDevice.make(values.length);
  onDevice.write(single, values);
  const [rounded, written, copied] = [0, 1, 2].map(() => memory.make(values.length));
  t.deepEqual(onDevice.read(rounded!), new Float32Array(values.length));
  memory.round(rounded!, single);
  onDevice.write(written!, values);
  const bytes = new Uint8Array(2 * values.length);
  memory.readBytes(rounded!, bytes);
  memory.writeBytes(copied!, bytes);
  for (const each of [rounded, written, copied]) t.deepEqual(onDevice.read(each!), nearest);
  t.throws(() => onDevice.tensor(rounded!, [values.length]), { message: /in single precision/ });
  t.is(cudaFlatMemory(device, { ...outside, precision: () => 'f32' }).rounded!(), undefined);
});

test.serial(
  'memory of the host that a device reaches has the same arithmetic, and takes none of the device’s',
  (t) => {
    const [values, more] = [randomValues(3, 3000), randomValues(4, 3000)];
    const [here, parked] = [onDevice.make(3000), onDevice.makeOnHost!(3000)];
    const left = onDevice.bytesLeft!();
    t.deepEqual(onDevice.read(parked), new Float32Array(3000));
    onDevice.write(here, values);
    onDevice.copy(parked, here);
    onDevice.write(here, more);
    onDevice.add(here, parked);
    const sum = values.map((value, i) => value + more[i]!);
    t.deepEqual(onDevice.read(here), sum);
    onDevice.add(parked.subarray(0, 100), here.subarray(100, 200));
    t.is(onDevice.read(parked)[7], Math.fround(values[7]! + sum[107]!));
    t.is(onDevice.bytesLeft!(), left);
    t.is(device.hostBytes, 4 * 3000);
    t.throws(() => onDevice.makeOnHost!(2 ** 46), {
      code: 'SLUICE_E_OUT_OF_MEMORY',
      message: /The host has no .* MiB more that stay where the GPU reaches them/,
    });
  },
);
