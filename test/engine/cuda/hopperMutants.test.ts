/** Mistakes planted in kernels with Hopper's own instructions, each of which must be found. */

import {
  type DeviceArray,
  type Emulator,
  expertGradients,
  expertProducts,
  HostRows,
  type Tile,
} from '@sluice/engine/cuda';
import test from 'ava';
import { activations, device, emulator, floatsOf, productError } from '../support/cuda.ts';
import { findAll, instead, type Mutant } from '../support/cudaMutants.ts';

/** In more steps than the ring has stages; two tiles, which neither rows nor columns fill. */
const SHAPE = { M: 136, N: 72, K: 392 };
const products = ({ device: on }: Emulator) =>
  Math.max(
    productError(on, 'matmul', SHAPE, 1, 'HopperSmall'),
    productError(on, 'matmulPlain', SHAPE, 2, 'HopperSmall'),
    productError(on, 'matmulTransposed', SHAPE, 3, 'HopperSmall'),
  );

/** How many values of experts' products are others than those by `mma.sync`. */
const experts = (emulated: Emulator) => {
  const [N, K, counts] = [72, 72, [70, 5, 129]];
  const compute = (on: typeof device, tile: Tile) => {
    let begin = 0;
    const segments = counts.map((count, expert) => {
      begin += count;
      return { expert, source: 0, begin: begin - count, count };
    });
    const of = (seed: number, length: number) => activations(on, seed, length, 'bf16').array;
    const [x, weights, dy] = [of(1, begin * K), of(2, counts.length * N * K), of(3, begin * N)];
    // Rows of the second expert are no numbers.
    for (const [array, width] of [
      [x, K],
      [dy, N],
    ] as const) {
      const ofSecond = array.subarray(segments[1]!.begin * width, segments[2]!.begin * width);
      ofSecond.write(new Uint16Array(ofSecond.length).fill(0x7fff));
    }
    const rows = new HostRows(on, segments);
    const [y, dx] = [on.allocate(begin * N, 'bf16'), on.allocate(begin * K, 'bf16')];
    const dWeights = on.allocate(weights.length, 'f32');
    expertProducts([x, weights, y], rows, { N, K }, { tile });
    expertProducts([dy, weights, dx], rows, { N: K, K: N }, { isPlain: true, tile });
    expertGradients(
      [dy, x],
      dWeights,
      rows.segmentsOf(0, counts.length, 'all'),
      { M: N, N: K },
      { accumulate: false, tile },
    );
    return [y, dx, dWeights].flatMap((array: DeviceArray) => [...floatsOf(array)]);
  };
  const [actual, expected] = [compute(emulated.device, 'HopperSmall'), compute(device, 'Small')];
  return expected.filter((value, i) => !Object.is(actual[i], value)).length * 2;
};

const MUTANTS: readonly Mutant[] = [
  ...(
    [
      ['a tile that is not waited for', 'waitFor(shared.full[place.stage], place.parity);', ''],
      [
        'a stage that is filled without waiting for those who read it',
        'waitFor(shared.empty[place.stage], place.parity ^ 1);',
        '',
      ],
      ['the parity of the phase that is under way', 'place.parity ^ 1)', 'place.parity)'],
      [
        'a stage given back while it is read',
        'arrive(shared.empty[before]);\n      }',
        'arrive(shared.empty[place.stage]);\n      }',
      ],
      ['bytes that nobody expects', 'expectBytes(full, STAGE_BYTES);', 'arrive(full);'],
      ['barriers that the copy engine does not see', '      publishBarriers();\n', ''],
      ['products that are not begun', '        beginProducts();\n', ''],
      ['sums stored while products are under way', 'waitForProducts<0>();', 'waitForProducts<1>();'],
      ['a wait for one group too few', 'waitForProducts<1>();', 'waitForProducts<2>();'],
      ['a wrong distance of panels', /(operandAcross\(shared\.right\[place\.stage\], PANEL_BYTES)/, '$1 / 2'],
      ['an operand across k read along it', 'multiplyTiles<LEFT, RIGHT>', 'multiplyTiles<LEFT, ALONG>'],
      ['every step begins anew', 'step > 0 || k > 0', 'k > 0'],
    ] as const
  ).map(([what, from, to]) => ({ what, file: 'matmulHopper', plant: instead(from, to), error: products })),
  ...(
    [
      [
        'others’ rows let into a sum',
        'if constexpr (ENDS_WITHIN) zeroBeyond(shared, place.stage, tile.depth - step * PANEL);',
        '',
      ],
      [
        'one of others’ rows let in',
        'zeroBeyond(shared, place.stage, tile.depth -',
        'zeroBeyond(shared, place.stage, tile.depth + 1 -',
      ],
      ['zeros that products do not see', '    publishWrites();\n', ''],
      ['zeros of other threads not waited for', '    syncThreads(BARRIER, CONSUMERS * WARPGROUP);\n', ''],
      ['zeros in the left operand alone', 'PANELS = PANELS_LEFT + COLUMNS / PANEL', 'PANELS = PANELS_LEFT'],
      [
        'others’ rows written',
        'if (row >= tile.rows || column >= tile.columns) continue;',
        'if (column >= tile.columns) continue;',
      ],
      ['the first expert’s matrix for all', 'return {0, row, of[2], column', 'return {0, row, 0, column'],
    ] as const
  ).map(([what, from, to]) => ({
    what,
    file: 'expertProductsHopper',
    plant: instead(from, to),
    error: experts,
  })),
];

for (const file of new Set(MUTANTS.map((mutant) => mutant.file))) {
  test(`mistakes planted in ${file} are found, and none without`, async (t) => {
    const mutants = MUTANTS.filter((each) => each.file === file);
    t.true(mutants[0]!.error(emulator) <= 1);
    await findAll(t, mutants);
  });
}
