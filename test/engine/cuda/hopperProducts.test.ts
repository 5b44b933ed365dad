/** Products by Hopper's own instructions: the bits of those by `mma.sync`, whatever the sizes, the tile and the order of threads. */

import {
  type CudaDevice,
  type DeviceArray,
  Emulator,
  expertGradients,
  expertProducts,
  floatsOf,
  HostRows,
  matmul,
  type ProductShape,
  TILES,
  type Tile,
  tileFor,
} from '@sluice/engine/cuda';
import test from 'ava';
import { activations, device, emulator, PRODUCTS, type ProductName, runProduct } from '../support/cuda.ts';

const PRODUCT_NAMES = Object.keys(PRODUCTS) as ProductName[];
const HOPPER_TILES = ['HopperSmall', 'HopperLarge'] as const;

type Bf16 = DeviceArray<'bf16'>;
const bf16 = (seed: number, length: number): Bf16 => activations(device, seed, length, 'bf16').array;

/** The gradient of weights added to what is there, logits in floats, and the others. */
function resultsOf(
  shape: ProductShape,
  tile: Tile,
  names: readonly ProductName[] = PRODUCT_NAMES,
): unknown[] {
  const { M, N, K } = shape;
  const operands = [bf16(1, M * K), bf16(2, N * K)] as const;
  const floats = device.allocate(M * N, 'f32');
  matmul(...operands, floats, shape, tile);
  return [
    floats.read(),
    ...names.map((name) => {
      const target = name === 'matmulTransposed' ? activations(device, 3, M * N, 'f32').array : undefined;
      return runProduct(name, operands, shape, tile, target).read();
    }),
  ];
}

test.serial('products by warpgroups have the bits of those by warps, on each kind of tensor cores', (t) => {
  // More tiles than one, in more steps than the ring has stages; sizes that fill none of both.
  for (const shape of [
    { M: 136, N: 264, K: 200 },
    { M: 8, N: 40, K: 8 },
  ]) {
    for (const [arithmetic, order, tiles] of [
      ['ampere', 'backward', ['HopperLarge']],
      ['hopper', 'shuffled', HOPPER_TILES],
    ] as const) {
      emulator.set({ arithmetic });
      const expected = resultsOf(shape, 'Small');
      emulator.set({ arithmetic, order });
      for (const tile of tiles)
        t.deepEqual(resultsOf(shape, tile), expected, `${tile}, ${JSON.stringify(shape)}`);
    }
  }
  emulator.set({});
});

test.serial('rows of a result need be no multiple of anything', (t) => {
  for (const tile of HOPPER_TILES) {
    for (const shape of [
      { M: 3, N: 75, K: 24 },
      { M: 130, N: 6, K: 72 },
    ])
      t.deepEqual(
        resultsOf(shape, tile, ['matmul']),
        resultsOf(shape, 'Small', ['matmul']),
        JSON.stringify(shape),
      );
  }
});

test.serial('blocks share the tiles, and no number of them changes a bit', (t) => {
  const { M, N, K } = { M: 2200, N: 40, K: 8 };
  const [a, b, expected] = [bf16(1, M * K), bf16(2, N * K), device.allocate(M * N, 'bf16')];
  emulator.set({ arithmetic: 'exact' });
  matmul(a, b, expected, { M, N, K }, 'Small');
  const maps = [
    device.tensorMaps.of(a, { rows: M, columns: K }, 128),
    device.tensorMaps.of(b, { rows: N, columns: K }, 128),
  ];
  for (const blocks of [1, 5, 18]) {
    const y = device.allocate(M * N, 'bf16');
    const kernel = device.kernel('matmulHopper', 'matmulHopperSmall');
    kernel.launch([blocks], TILES.HopperSmall.sharedBytes, maps[0]!, maps[1]!, y, M, N, K);
    t.deepEqual(y.read(), expected.read());
  }
  emulator.set({});
});

const [N, K] = [72, 136];
const COUNTS = [3, 0, 70, 129];
const ROWS = COUNTS.reduce((sum, count) => sum + count);
const SEGMENTS = COUNTS.map((count, expert) => ({
  expert,
  source: 0,
  begin: COUNTS.slice(0, expert).reduce((sum, before) => sum + before, 0),
  count,
}));

interface ExpertOperands {
  readonly x: Bf16;
  readonly weights: Bf16;
  readonly dy: Bf16;
}

function expertResults({ x, weights, dy }: ExpertOperands, tile: Tile) {
  const experts = new HostRows(device, SEGMENTS);
  const [y, dx] = [device.allocate(ROWS * N, 'bf16'), device.allocate(ROWS * K, 'bf16')];
  expertProducts([x, weights, y], experts, { N, K }, { tile });
  expertProducts([dy, weights, dx], experts, { N: K, K: N }, { isPlain: true, tile });
  const added = activations(device, 9, weights.length, 'f32').array;
  const written = device.allocate(weights.length, 'f32');
  const all = experts.segmentsOf(0, COUNTS.length, 'all');
  expertGradients([dy, x], written, all, { M: N, N: K }, { accumulate: false, tile });
  expertGradients([dy, x], added, all, { M: N, N: K }, { accumulate: true, tile });
  return { y, dx, written, added };
}

test.serial(
  'products of experts by warpgroups have the bits of those by warps, and without rows zeros',
  (t) => {
    const operands = { x: bf16(1, ROWS * K), weights: bf16(2, COUNTS.length * N * K), dy: bf16(3, ROWS * N) };
    for (const arithmetic of ['ampere', 'hopper'] as const) {
      emulator.set({ arithmetic });
      const expected = expertResults(operands, 'Small');
      for (const tile of HOPPER_TILES) {
        const actual = expertResults(operands, tile);
        for (const name of ['y', 'dx', 'written', 'added'] as const)
          t.deepEqual(actual[name].read(), expected[name].read(), `${name}, ${tile}`);
      }
    }
    emulator.set({});
  },
);

/** A copy in which the rows of all experts but one, and their matrices, are no numbers. */
function others({ x, weights, dy }: ExpertOperands, own: number): ExpertOperands {
  const without = (array: Bf16, ofExpert: (expert: number) => readonly [begin: number, end: number]) => {
    const values = array.read();
    for (let expert = 0; expert < COUNTS.length; expert++) {
      if (expert !== own) values.fill(0x7fff, ...ofExpert(expert));
    }
    return device.upload(values, 'bf16');
  };
  const rows = (width: number) => (expert: number) => {
    const { begin, count } = SEGMENTS[expert]!;
    return [begin * width, (begin + count) * width] as const;
  };
  return {
    x: without(x, rows(K)),
    weights: without(weights, (expert) => [expert * N * K, (expert + 1) * N * K]),
    dy: without(dy, rows(N)),
  };
}

test.serial('what other experts have enters no sum of an expert, even where it is no number', (t) => {
  const operands = { x: bf16(1, ROWS * K), weights: bf16(2, COUNTS.length * N * K), dy: bf16(3, ROWS * N) };
  emulator.set({ arithmetic: 'exact' });
  const own = 2;
  for (const tile of HOPPER_TILES) {
    const [expected, actual] = [operands, others(operands, own)].map((each) => expertResults(each, tile));
    const { begin, count } = SEGMENTS[own]!;
    const matrix = [own * N * K, (own + 1) * N * K];
    for (const [name, [first, end]] of [
      ['y', [begin * N, (begin + count) * N]],
      ['dx', [begin * K, (begin + count) * K]],
      ['written', matrix],
      ['added', matrix],
    ] as const)
      t.deepEqual(
        actual![name].subarray(first, end).read(),
        expected![name].subarray(first, end).read(),
        `${name}, ${tile}`,
      );
    t.true(floatsOf(actual!.y).some(Number.isNaN));
  }
  emulator.set({});
});

test('a device takes the kernels that its card has, by the sizes of the result', (t) => {
  const tiles = (isHopper: boolean, multiprocessors: number) =>
    (
      [
        [1, 4096, 6144],
        [1, 2048, 1024],
        [1, 8, 6144],
        [128, 256, 1536],
        [128, 20, 1536],
      ] as const
    ).map(([count, rows, columns]) => tileFor({ count, rows, columns }, { isHopper, multiprocessors }));
  t.deepEqual(tiles(true, 132), ['HopperLarge', 'HopperSmall', 'Small', 'HopperLarge', 'HopperLarge']);
  t.deepEqual(tiles(false, 108), ['Large', 'Small', 'Small', 'Large', 'Small']);

  const kernelsOf = (on: CudaDevice) => {
    const names: string[] = [];
    const kernelOf = on.kernelOf.bind(on);
    on.kernelOf = (source, name) => {
      names.push(name);
      return kernelOf(source, name);
    };
    const of = (seed: number, length: number) => activations(on, seed, length, 'bf16').array;
    matmul(of(1, 128 * 16), of(2, 256 * 16), on.allocate(128 * 256, 'bf16'), { M: 128, N: 256, K: 16 });
    on.kernelOf = kernelOf;
    return names;
  };
  t.deepEqual(kernelsOf(new Emulator({ isHopper: true }).device), ['matmulHopperLarge']);
  t.deepEqual(kernelsOf(device), ['matmulLarge']);
});
