/** Hopper's own instructions on the emulator: what they do, and what it finds. */

import { readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import type { KernelSource, TensorMap } from '@sluice/engine/cuda';
import test from 'ava';
import { device, emulator, floatsOf, fromBf16, toBf16 } from '../support/cuda.ts';
import { randomValues } from '../support/differential.ts';

const mistakes: KernelSource = {
  name: 'hopperMistakes',
  text: readFileSync(new URL('hopperMistakes.cu', import.meta.url), 'utf8'),
};
/** Of a tile, which is the whole matrix. */
const SIZE = 64;
const SHARED_BYTES = 3 * SIZE * SIZE * 2 + 1024;

const values = toBf16(randomValues(1, SIZE * SIZE));
const x = device.upload(values, 'bf16');
const mapOf = (array: typeof x): TensorMap =>
  device.tensorMaps.of(array, { rows: SIZE, columns: SIZE }, SIZE);

function launch(name: string) {
  const y = device.allocate(SIZE * SIZE, 'f32');
  device.kernelOf(mistakes, name).launch([1], SHARED_BYTES, mapOf(x), y);
  return y;
}
/** The same for kernels that give a tile of bf16 to the copy engine. */
function launchWithStore(name: string) {
  const y = device.allocate(SIZE * SIZE, 'bf16');
  device.kernelOf(mistakes, name).launch([1], SHARED_BYTES, mapOf(x), mapOf(y));
  return y;
}

/** x · xᵀ, or xᵀ · x. */
function expected(isAcross: boolean): Float32Array {
  const of = fromBf16(values);
  const at = (row: number, k: number) => (isAcross ? of[k * SIZE + row]! : of[row * SIZE + k]!);
  return Float32Array.from({ length: SIZE * SIZE }, (_, i) => {
    const [row, column] = [Math.floor(i / SIZE), i % SIZE];
    // As the emulator adds exactly: rounded once for every sixteen products.
    let sum = 0;
    for (let k = 0; k < SIZE; k += 16) {
      for (let l = k; l < k + 16; l++) sum += at(row, l) * at(column, l);
      sum = Math.fround(sum);
    }
    return sum;
  });
}

test.serial('tiles come, and warpgroups multiply them along k, across it, and from registers', (t) => {
  for (const order of ['forward', 'backward', 'shuffled'] as const) {
    emulator.set({ arithmetic: 'exact', order });
    t.deepEqual(floatsOf(launch('right')), expected(false));
    t.deepEqual(floatsOf(launch('rightAcross')), expected(true));
    t.deepEqual(launchWithStore('rightFragment').read(), toBf16(expected(false)));
  }
  emulator.set({});
});

const FAULTS: Readonly<Record<string, RegExp>> = {
  notInitialised: /uses a barrier that was not initialised/,
  initialisedByAnother: /uses a barrier that thread 0 initialises, and no barrier of the block lies between/,
  barrierNotPublished: /the copy engine does not see: publishBarriers is missing/,
  parityThatNeverComes:
    /waits for the end of a barrier's phase of parity 1 that never comes: it is in phase 1, with 0 of 1 arrivals/,
  parityBeforeTheFirst: /a product reads what a tile copy has not brought yet/,
  expectsNoBytes: /phase ends before 1 of its tile copies: expectBytes is missing/,
  expectsTooManyBytes: /parity 0 that never comes: .* and 8192 bytes missing/,
  namedBarrierOfOthers: /threads wait for others that never come/,
  tileNotWaitedFor: /reads what a tile copy has not brought yet/,
  tileOverWhatIsRead: /begins a tile copy to what thread \d+ of the block reads, and no barrier/,
  tileOverAProduct: /begins a tile copy to what a product reads that was not waited for/,
  copyOverAnother: /writes what a copy is bringing: waitForCopies is missing/,
  tileMisplaced: /no multiple of 1024 bytes/,
  tileLeftUnderWay: /the block ends while tile copies are under way/,
  productOfUnwaitedTile: /a product reads what a tile copy has not brought yet/,
  tileWaitedForByOneWarp: /a product reads what a tile copy has not brought yet/,
  writesNotPublished: /a product reads what thread \d+ of the block has written: publishWrites is missing/,
  writesPublishedTooEarly:
    /a product reads what thread \d+ of the block has written: publishWrites is missing/,
  productNotBegun: /beginProducts is missing/,
  sumsNotWaitedFor: /reads sums of a product that was not waited for/,
  fragmentOverwritten: /writes a fragment of a product that was not waited for/,
  writesOverAProduct: /writes what a product reads that was not waited for/,
  operandMisplaced: /an operand that does not begin at a multiple of 1024 bytes, or within its first row/,
  operandNotSwizzled: /an operand without the 128-byte swizzle/,
  productOfPartOfAWarpgroup: /threads wait for others that never come/,
  productInBranches: /an operation of a warp in another branch than other lanes/,
  productsLeftUnderWay: /ends while its products are under way/,
  registersOfNobody: /have raised their registers by 32 a thread more than others have given up/,
};
const STORE_FAULTS: Readonly<Record<string, RegExp>> = {
  storeNotPublished: /a tile store reads what thread \d+ of the block has written: publishWrites is missing/,
  storeOverwritten: /writes what a tile store reads that was not waited for/,
  storesLeftUnderWay: /ends while its tile stores read shared memory: waitForStores is missing/,
};
/** Where the line is known: the others are found at the end, or where all wait. */
const WITH_LINES = ['tileNotWaitedFor', 'sumsNotWaitedFor', 'writesNotPublished', 'parityThatNeverComes'];

test.serial(
  'each kind of mistake with barriers, tiles and products is named, in any order of threads',
  (t) => {
    for (const order of ['forward', 'shuffled'] as const) {
      emulator.set({ order });
      for (const [faults, run] of [
        [FAULTS, launch],
        [STORE_FAULTS, launchWithStore],
      ] as const) {
        for (const [name, message] of Object.entries(faults)) {
          const error = t.throws(
            () => run(name),
            { instanceOf: SluiceError, code: 'SLUICE_E_CUDA', message },
            name,
          );
          t.regex(error!.message, new RegExp(`${name}, thread \\d+ of block \\(0, 0, 0\\)`));
          if (WITH_LINES.includes(name)) t.regex(error!.message, /\(hopperMistakes\.cu:\d+\)/, name);
        }
      }
    }
    emulator.set({ arithmetic: 'exact' });
    t.deepEqual(floatsOf(launch('right')), expected(false), 'the device is fit for the next launch');
    emulator.set({});
  },
);

test('tensor maps are kept, and refused as the driver refuses them', (t) => {
  t.is(mapOf(x), mapOf(x));
  const shape = {
    address: x.address,
    storage: 'bf16',
    sizes: [64, 64, 1],
    strides: [128, 8192],
    box: [64, 64, 1],
  } as const;
  t.is(device.driver.encodeTensorMap(shape).length, 128);
  for (const [wrong, message] of [
    [{ address: x.address + 8 }, /do not begin at a multiple of 16 bytes/],
    [{ sizes: [64, 0, 1] }, /of 0 along an axis/],
    [{ strides: [120, 8192] }, /stride of 120 bytes/],
    [{ strides: [64, 8192] }, /whose rows overlap/],
    [{ box: [64, 257, 1] }, /a box of 257/],
    [{ box: [32, 64, 1] }, /rows of other than 128 bytes/],
    [{ sizes: [64, 64], strides: [128], box: [64, 64] }, /2 axes/],
  ] as const) {
    const error = t.throws(() => device.driver.encodeTensorMap({ ...shape, ...wrong }), { message });
    t.regex(error!.message, /cuTensorMapEncodeTiled failed with CUDA_ERROR_INVALID_VALUE/);
  }
  t.throws(() => device.tensorMaps.of(x, { rows: 65, columns: 64 }, 64), {
    message: /1 matrices of 65 × 64 in 4096 values/,
  });
});
