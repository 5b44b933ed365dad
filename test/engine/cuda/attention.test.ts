/** Attention and its gradients on the emulator, against double precision. */

import type { AttentionLayout } from '@sluice/engine';
import {
  attentionErrors,
  type DeviceArray,
  LAYOUT,
  type Operands,
  operandsOf,
  runAttention,
} from '@sluice/engine/cuda';
import test from 'ava';
import { device, emulator, floatsOf } from '../support/cuda.ts';

const worst = (layout: AttentionLayout, seed?: number) =>
  Math.max(...Object.values(attentionErrors(device, layout, seed)));

test('results and gradients keep to the bounds of bf16 for every kind of gate, size of head, and sharing of keys', (t) => {
  const layouts: Partial<AttentionLayout>[] = [
    {},
    { gate: 'headwise', heads: 3, keyValueHeads: 3, sequence: 40, batch: 2 },
    { gate: 'none', headDim: 64, sequence: 70 },
    { headDim: 128, heads: 4, keyValueHeads: 2, sequence: 66 },
    { headDim: 256, sequence: 70 },
    // Those of a learned sink, which fill no tile.
    { gate: 'none', headDim: 40, sequence: 70 },
    { headDim: 136, heads: 1, sequence: 40 },
    { scoreCap: 0.5 },
    { scoreCap: 2, headDim: 64, heads: 1, sequence: 30 },
    { scoreCap: 0.2, headDim: 128, heads: 1, sequence: 30 },
    { scoreCap: 0.2, headDim: 200, heads: 1, sequence: 70, gate: 'none' },
    { sequence: 1 },
  ];
  for (const layout of layouts) t.true(worst({ ...LAYOUT, ...layout }) < 1, JSON.stringify(layout));
});

test('rows see their own document and their window only, and so do gradients', (t) => {
  const documents = Int32Array.of(0, 3, 70, 150, 230);
  for (const window of [undefined, 1, 20, 64, 100]) {
    t.true(worst({ ...LAYOUT, batch: 2, documents, window }, 7) < 1, `${window}`);
  }
  // Tiles of passing keys and queries are half as long there.
  const wide = {
    ...LAYOUT,
    batch: 2,
    heads: 1,
    sequence: 80,
    headDim: 256,
    documents: Int32Array.of(0, 33, 80),
  };
  t.true(worst({ ...wide, window: 50 }, 7) < 1);
});

test('a document has the same bits alone and among others, in any order of blocks and threads', (t) => {
  const [begin, end] = [37, 140];
  const layout = { ...LAYOUT, documents: Int32Array.of(0, begin, end), window: 90 };
  const operands = operandsOf(device, layout);
  const bits = (results: ReturnType<typeof runAttention>) =>
    Object.values(results).map((array) => array!.read());
  const orders = [
    {},
    { order: 'backward' },
    { order: 'shuffled', seed: 3 },
    { order: 'shuffled', seed: 4 },
  ] as const;
  const results = orders.map((order) => {
    emulator.set(order);
    return bits(runAttention(layout, operands));
  });
  emulator.set({});
  for (const result of results) t.deepEqual(result, results[0]);

  const rowsOf = (array: DeviceArray<'bf16'>) => {
    const width = array.length / LAYOUT.sequence;
    return array.subarray(begin * width, end * width);
  };
  const cut = Object.entries(operands).map(([name, operand]) => [
    name,
    { array: rowsOf(operand!.array), values: new Float32Array() },
  ]);
  const own = { ...layout, sequence: end - begin, documents: undefined };
  const [alone, whole] = [
    runAttention(own, Object.fromEntries(cut) as Operands),
    runAttention(layout, operands),
  ];
  for (const name of ['y', 'dq', 'dk', 'dv', 'dGate'] as const)
    t.deepEqual(alone[name]!.read(), rowsOf(whole[name]!).read(), name);
});

test('tiles of every size of head are loaded without bank conflicts', (t) => {
  for (const headDim of [32, 64, 128, 256]) {
    const layout = { ...LAYOUT, headDim, sequence: 64, heads: 1 };
    emulator.statistics();
    runAttention(layout, operandsOf(device, layout));
    const { products, bankConflicts } = emulator.statistics();
    t.true(products > 0);
    t.is(bankConflicts, 0);
  }
});

test('what is no number comes out of the rows that see it', (t) => {
  const layout = { ...LAYOUT, sequence: 70, gate: 'none' as const };
  const operands = operandsOf(device, layout);
  const bits = operands.k.array.read();
  bits[50 * layout.headDim + 3] = 0x7fc0;
  operands.k.array.write(bits);
  const width = layout.heads * layout.headDim;
  const { y, dq } = runAttention(layout, operands);
  t.true(
    floatsOf(y)
      .subarray(0, 50 * width)
      .every(Number.isFinite),
  );
  for (const values of [floatsOf(y), floatsOf(dq)]) t.true(values.subarray(50 * width).every(Number.isNaN));
});

test('what the kernels do not have is refused', (t) => {
  const run = (layout: AttentionLayout) => runAttention(layout, operandsOf(device, layout));
  t.throws(() => run({ ...LAYOUT, headDim: 36, sequence: 2 }), { message: /heads of 36 channels/ });
  t.throws(() => run({ ...LAYOUT, headDim: 264, sequence: 2 }), { message: /heads of 264 channels/ });
  const operands = operandsOf(device, { ...LAYOUT, sequence: 2 });
  t.throws(() => runAttention({ ...LAYOUT, sequence: 3 }, operands), {
    message: /q, k, v, y, gate and logSumExp of/,
  });
});
