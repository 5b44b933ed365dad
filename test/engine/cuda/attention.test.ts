/** Attention and its gradients on the emulator, against double precision. */

import type { AttentionLayout } from '@sluice/engine';
import {
  type Activations,
  attentionErrors,
  BF16_ROUNDING,
  cachedAttention,
  LAYOUT,
  type Operands,
  operandsOf,
  runAttention,
} from '@sluice/engine/cuda';
import test from 'ava';
import { device, emulator, floatsOf, gradientsInPlace, worstShare } from '../support/cuda.ts';

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

  const rowsOf = (array: Activations) => {
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

/** Rows of the last T of S tokens, with what they are made of, in double precision. */
function lastRows(layout: AttentionLayout, S: number, { q, k, v, gate }: Operands) {
  const { sequence: T, heads, keyValueHeads, headDim: D, window = S, scoreCap } = layout;
  const [values, sizes] = [new Float64Array(T * heads * D), new Float64Array(T * heads * D)];
  for (let t = 0; t < T; t++) {
    const [last, first] = [S - T + t, Math.max(0, S - T + t + 1 - window)];
    for (let head = 0; head < heads; head++) {
      const at = (key: number) => (key * keyValueHeads + Math.floor((head * keyValueHeads) / heads)) * D;
      const own = (t * heads + head) * D;
      const weights = Array.from({ length: last + 1 - first }, (_, i) => {
        let score = 0;
        for (let c = 0; c < D; c++) score += q.values[own + c]! * k.values[at(first + i) + c]!;
        score /= Math.sqrt(D);
        return Math.exp(scoreCap === undefined ? score : scoreCap * Math.tanh(score / scoreCap));
      });
      const sum = weights.reduce((a, b) => a + b, 0);
      for (let c = 0; c < D; c++) {
        const logit = gate?.values[layout.gate === 'headwise' ? t * heads + head : own + c];
        const open = logit === undefined ? 1 : 1 / (1 + Math.exp(-logit));
        for (const [i, weight] of weights.entries()) {
          const term = ((weight * open) / sum) * v.values[at(first + i) + c]!;
          values[own + c]! += term;
          sizes[own + c]! += Math.abs(term);
        }
      }
    }
  }
  return { values, sizes };
}

test('attention to kept keys is exact to a rounding of bf16, however many there are, in any order', (t) => {
  const cases: [tokens: number, changes: Partial<AttentionLayout>][] = [
    [5, { sequence: 2 }],
    [1100, { sequence: 1, headDim: 40, gate: 'none' }],
    [530, { sequence: 3, window: 20, gate: 'headwise', heads: 3, keyValueHeads: 3 }],
    [140, { sequence: 2, window: 139, headDim: 256 }],
    [70, { sequence: 1, scoreCap: 0.3 }],
  ];
  for (const [tokens, changes] of cases) {
    const layout = { ...LAYOUT, ...changes };
    const operands = operandsOf(device, layout);
    const { k, v } = operandsOf(device, { ...layout, sequence: tokens }, 9);
    const [keys, values] = [k, v].map((rows) => device.upload(rows.values, 'f32'));
    const expected = lastRows(layout, tokens, { ...operands, k, v });
    const run = () => {
      const y = device.allocate(operands.q.array.length, 'bf16');
      const { q, gate } = operands;
      const given = { q: q.array, keys: keys!, values: values!, tokens, gate: gate?.array };
      cachedAttention(given, y, layout);
      return floatsOf(y);
    };
    const y = run();
    const bound = (i: number) =>
      BF16_ROUNDING * 1.01 * Math.abs(expected.values[i]!) + 1e-5 * expected.sizes[i]! + 1e-30;
    t.true(worstShare(y, expected.values, bound) < 1, JSON.stringify(changes));
    emulator.set({ order: 'shuffled' });
    t.deepEqual(run(), y);
    emulator.set({});
  }
});

test('queries for which there is no room at once take turns, with the same bits', (t) => {
  const [tokens, layout] = [518, { ...LAYOUT, sequence: 10 }];
  const { q, gate } = operandsOf(device, layout);
  const { k, v } = operandsOf(device, { ...layout, sequence: tokens }, 9);
  const [keys, values] = [k, v].map((rows) => device.upload(rows.values, 'f32'));
  const given = { q: q.array, keys: keys!, values: values!, tokens, gate: gate?.array };
  const ofQuery = 4 * 2 * layout.heads * (layout.headDim + 2);
  const run = (workBytes?: number) => {
    const y = device.allocate(q.array.length, 'bf16');
    cachedAttention(given, y, layout, workBytes);
    return y.read();
  };
  const y = run();
  // Those that come first see fewer keys than take two blocks.
  for (const queries of [7, 3, 0.5]) t.deepEqual(run(queries * ofQuery), y, `${queries}`);
});

test('gradients of queries and gate may take the places of what comes in, as in training', (t) => {
  for (const storage of ['bf16', 'f32'] as const) {
    for (const gate of ['headwise', 'elementwise'] as const) {
      const layout = { ...LAYOUT, sequence: 20, gate };
      const apart = runAttention(layout, operandsOf(device, layout, 1, storage));
      const inPlace = gradientsInPlace(device, layout, storage);
      t.deepEqual(inPlace.map(floatsOf), [apart.dq, apart.dGate!].map(floatsOf), `${gate}, ${storage}`);
    }
  }
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
