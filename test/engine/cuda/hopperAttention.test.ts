/** Attention by Hopper's own instructions: the bits of the kernels by `mma.sync`, whatever the layout and the order of threads. */

import type { AttentionLayout } from '@sluice/engine';
import { Emulator, LAYOUT, type Operands, operandsOf, runAttention } from '@sluice/engine/cuda';
import test from 'ava';
import { device, emulator } from '../support/cuda.ts';

const bitsOf = (layout: AttentionLayout, operands: Operands, isHopper: boolean) =>
  Object.fromEntries(
    Object.entries(runAttention(layout, operands, { isHopper })).map(([name, array]) => [
      name,
      array?.read(),
    ]),
  );

/** Makes some rows of all operands no numbers. */
function spoil(layout: AttentionLayout, operands: Operands, rows: readonly [begin: number, end: number][]) {
  const tokens = layout.batch * layout.sequence;
  for (const operand of Object.values(operands)) {
    if (!operand) continue;
    const [bits, width] = [operand.array.read(), operand.array.length / tokens];
    for (const [begin, end] of rows) bits.fill(0x7fc0, begin * width, end * width);
    operand.array.write(bits);
  }
}

/** Blocks that are not filled, or by one consumer alone, and tiles that are not; documents of which each begins anywhere. */
const LAYOUTS: readonly Partial<AttentionLayout>[] = [
  {
    ...{ headDim: 64, gate: 'headwise', heads: 2, sequence: 160 },
    ...{ documents: Int32Array.of(0, 3, 136), window: 70 },
  },
  { headDim: 128, heads: 1, sequence: 145 },
  { headDim: 256, heads: 1, sequence: 100, documents: Int32Array.of(0, 33), window: 50 },
  // Those of a learned sink, which fill no tile.
  { headDim: 40, gate: 'none', batch: 2, heads: 4, keyValueHeads: 2, sequence: 70 },
  { headDim: 64, scoreCap: 0.5, heads: 1, sequence: 70 },
  { headDim: 136, scoreCap: 2, heads: 1, sequence: 70, window: 1 },
];

test.serial('attention by warpgroups has the bits of that by warps, on each kind of tensor cores', (t) => {
  for (const changes of LAYOUTS) {
    const layout = { ...LAYOUT, ...changes };
    const operands = operandsOf(device, layout);
    for (const arithmetic of ['ampere', 'hopper'] as const) {
      emulator.set({ arithmetic });
      const expected = bitsOf(layout, operands, false);
      emulator.set({ arithmetic, order: arithmetic === 'hopper' ? 'shuffled' : 'backward' });
      t.deepEqual(bitsOf(layout, operands, true), expected, `${arithmetic}: ${JSON.stringify(changes)}`);
    }
  }
  emulator.set({});
});

test.serial('what is no number reaches the same rows, and none of another document', (t) => {
  emulator.set({ arithmetic: 'exact' });
  for (const [headDim, heads] of [
    [64, 2],
    [256, 1],
  ] as const) {
    // Each document ends within a tile, of which another one has the rest.
    const layout = { ...LAYOUT, headDim, heads, sequence: 160, documents: Int32Array.of(0, 30, 150) };
    const operands = operandsOf(device, layout);
    spoil(layout, operands, [
      [0, 30],
      [150, 160],
    ]);
    const others = bitsOf(layout, operands, true);
    t.deepEqual(others, bitsOf(layout, operands, false));
    const alone = { ...layout, sequence: 120, documents: undefined };
    const own = Object.entries(operands).map(([name, operand]) => {
      const width = operand!.array.length / layout.sequence;
      return [name, { ...operand!, array: operand!.array.subarray(30 * width, 150 * width) }];
    });
    const expected = bitsOf(alone, Object.fromEntries(own) as Operands, true);
    for (const name of ['y', 'dq', 'dk', 'dv', 'dGate']) {
      const width = others[name]!.length / layout.sequence;
      t.deepEqual(others[name]!.slice(30 * width, 150 * width), expected[name], name);
    }
    spoil(layout, operands, [[100, 101]]);
    t.deepEqual(bitsOf(layout, operands, true), bitsOf(layout, operands, false));
  }
  emulator.set({});
});

test('a device takes the kernels that its card has, for heads of 64 channels and more', (t) => {
  const { device: hopper } = new Emulator({ isHopper: true });
  const kernelsOf = (headDim: number, scoreCap?: number) => {
    const names: string[] = [];
    const { kernelOf } = hopper;
    hopper.kernelOf = (source, name) => {
      names.push(name);
      return kernelOf.call(hopper, source, name);
    };
    const layout: AttentionLayout = { ...LAYOUT, headDim, scoreCap, heads: 1, sequence: 1 };
    runAttention(layout, operandsOf(hopper, layout));
    hopper.kernelOf = kernelOf;
    return names;
  };
  t.deepEqual(kernelsOf(32), ['attention32', 'attentionGateBf16', 'attentionKeys32', 'attentionQueries32']);
  t.deepEqual(kernelsOf(40), [
    'attentionHopper64',
    'attentionGateBf16',
    'attentionKeysHopper64',
    'attentionQueriesHopper64',
  ]);
  t.deepEqual(kernelsOf(136, 2), [
    'attentionCappedHopper256',
    'attentionGateBf16',
    'attentionKeysCappedHopper256',
    'attentionQueriesCappedHopper256',
  ]);
});
