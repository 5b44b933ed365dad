/** Delta rules in chunks, on the emulator, which watches every access, against the recurrence in single precision. */

import { deltaRuleBytes } from '@sluice/engine';
import {
  type CudaDevice,
  type DeviceArray,
  deltaChunks,
  deltaChunksBackward,
  deltaRule,
  deltaRuleBackward,
  Emulator,
  type RecurrenceOperands,
  type States,
} from '@sluice/engine/cuda';
import test from 'ava';
import { device, emulator, floatsOf, toBf16 } from '../support/cuda.ts';
import { randomValues } from '../support/differential.ts';

const SIZES = { batch: 1, heads: 2, keyDim: 24, valueDim: 72 };
type Layout = typeof SIZES & { sequence: number; decays: number; documents?: Int32Array };
const KINDS = { 'one decay': 1, 'decays of channels': SIZES.keyDim };

type Name = 'q' | 'k' | 'v' | 'beta' | 'g' | 'dy';
type Values = Record<Name, Float32Array>;

const widthsOf = ({ heads, keyDim, valueDim, decays }: Layout): Record<Name, number> => ({
  ...{ q: heads * keyDim, k: heads * keyDim, v: heads * valueDim },
  ...{ beta: heads, g: heads * decays, dy: heads * valueDim },
});

/** Keys of unit length, any two of which have something in common, as SiLUs give them. */
function valuesOf(layout: Layout): Values {
  const { sequence, keyDim } = layout;
  const widths = widthsOf(layout);
  const random = (name: Name, seed: number) => randomValues(seed, sequence * widths[name]);
  const unit = (values: Float32Array) => {
    const shifted = values.map((x) => x + 0.3);
    for (let at = 0; at < shifted.length; at += keyDim) {
      const row = shifted.subarray(at, at + keyDim);
      const length = Math.hypot(...row);
      for (let i = 0; i < keyDim; i++) row[i]! /= length;
    }
    return shifted;
  };
  return {
    ...{ q: unit(random('q', 1)), k: unit(random('k', 2)), v: random('v', 3) },
    beta: random('beta', 4).map((x) => (1 + x) / 2),
    g: random('g', 5).map((x) => (x - 1) / 10),
    dy: random('dy', 6),
  };
}

interface Outcome {
  /** Of rows: y, and the gradients. */
  readonly rows: Readonly<Record<string, Float32Array>>;
  readonly after?: Float32Array;
}

/** Both passes, in chunks (bf16) or token after token (f32), of the same operands. */
function run(
  layout: Layout,
  values: Values,
  form: 'bf16' | 'f32',
  states?: States,
  { on = device, mostBytes }: { on?: CudaDevice; mostBytes?: number } = {},
): Outcome {
  const upload = (name: Name): DeviceArray<'bf16' | 'f32'> => {
    const halves = toBf16(values[name]);
    if (form === 'bf16') return on.upload(halves, 'bf16');
    const rounded = new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
    return on.upload(rounded, 'f32');
  };
  const operands: RecurrenceOperands = {
    ...{ q: upload('q'), k: upload('k'), v: upload('v') },
    ...{ beta: on.upload(values.beta, 'f32'), g: on.upload(values.g, 'f32') },
  };
  const dy = upload('dy');
  const like = <S extends 'bf16' | 'f32'>({ length, storage }: DeviceArray<S>) =>
    on.allocate(length, storage);
  const y = like(dy);
  if (mostBytes) deltaChunks(operands, y, layout, states, mostBytes);
  else deltaRule(operands, y, layout, states);
  if (states) return { rows: { y: floatsOf(y) }, ...(states.after && { after: floatsOf(states.after) }) };
  const { q, k, v, beta, g } = operands;
  const gradients = { q: like(q), k: like(k), v: like(v), beta: like(beta), g: like(g) };
  if (mostBytes) deltaChunksBackward({ ...operands, dy }, gradients, layout, mostBytes);
  else deltaRuleBackward({ ...operands, dy }, gradients, layout);
  const named = Object.entries(gradients).map(([name, array]) => [name, floatsOf(array)]);
  return { rows: { y: floatsOf(y), ...Object.fromEntries(named) } };
}

/** The largest difference of each result, relative to its largest magnitude. */
function differences(actual: Outcome['rows'], expected: Outcome['rows']): Record<string, number> {
  const largest = (values: Float32Array) => values.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-30);
  const of = Object.entries(expected).map(([name, values]) => {
    const apart = values.map((value, i) => actual[name]![i]! - value);
    return [name, apart.every(Number.isFinite) ? largest(apart) / largest(values) : Number.POSITIVE_INFINITY];
  });
  return Object.fromEntries(of);
}

for (const [name, decays] of Object.entries(KINDS)) {
  test(`${name}: documents of any length have the results and gradients of the recurrence, to bf16`, (t) => {
    for (const [sequence, sizes] of [
      [2, {}],
      [130, { heads: 1 }],
      [66, { heads: 1, keyDim: 128, valueDim: 8 }],
      [70, { documents: Int32Array.of(0, 1, 65) }],
    ] as const) {
      const layout = { ...SIZES, sequence, decays, ...sizes };
      const of = { ...layout, decays: decays === 1 ? 1 : layout.keyDim };
      const values = valuesOf(of);
      const apart = differences(run(of, values, 'bf16').rows, run(of, values, 'f32').rows);
      t.true(Math.max(...Object.values(apart)) < 2 ** -7, `${sequence}: ${JSON.stringify(apart)}`);
    }
  });

  test(`${name}: slow, fast and endless decays, and a β of 0 and of 2, have no overflow`, (t) => {
    const layout = { ...SIZES, heads: 1, sequence: 70, decays };
    const values = valuesOf(layout);
    for (const g of [[0], [-1e-4, -3], [-90, -0.01, -1e30], [Number.NEGATIVE_INFINITY, 0, -1]]) {
      // Neither a token's channels nor a channel's tokens have all the same.
      values.g = values.g.map((_, i) => g[(i + Math.floor(i / 7)) % g.length]!);
      values.beta = values.beta.map((beta, i) => [beta, 0, 2, 1e-30][i % 4]!);
      const apart = differences(run(layout, values, 'bf16').rows, run(layout, values, 'f32').rows);
      t.true(Math.max(...Object.values(apart)) < 2 ** -6, `${g}: ${JSON.stringify(apart)}`);
    }
  });

  test(`${name}: a document has the bits that it has alone, wherever it begins, also beside what is no number`, (t) => {
    const lengths = [5, 64, 70, 1];
    const layout = { ...SIZES, sequence: 140, decays };
    const widths = widthsOf(layout);
    const values = valuesOf(layout);
    const begins = lengths.map((_, i) => lengths.slice(0, i).reduce((sum, length) => sum + length, 0));
    const rowsOf = (name: string, of: Float32Array, begin: number, end: number) => {
      const width = widths[(name === 'y' ? 'dy' : name) as Name];
      return of.slice(begin * width, end * width);
    };
    for (const [i, begin] of begins.entries()) {
      const end = begin + lengths[i]!;
      const cut = (begin: number, end: number) =>
        Object.fromEntries(
          Object.entries(values).map(([name, of]) => [name, rowsOf(name, of, begin, end)]),
        ) as Values;
      const alone = run({ ...layout, sequence: end - begin }, cut(begin, end), 'bf16').rows;
      const spoilt = Object.fromEntries(
        Object.entries(values).map(([name, of]) => {
          const others = new Float32Array(of.length).fill(Number.NaN);
          others.set(rowsOf(name, of, begin, end), begin * widths[name as Name]);
          return [name, others];
        }),
      ) as Values;
      const among = run({ ...layout, documents: Int32Array.from(begins) }, spoilt, 'bf16').rows;
      for (const [name, expected] of Object.entries(alone))
        t.deepEqual(rowsOf(name, among[name]!, begin, end), expected, `${name} of document ${i}`);
    }
  });

  test(`${name}: a sequence that is cut where chunks end has the bits of the whole one`, (t) => {
    const layout = { ...SIZES, sequence: 136, decays };
    const [values, widths] = [valuesOf(layout), widthsOf(layout)];
    const size = layout.heads * layout.keyDim * layout.valueDim;
    const inPieces = (cuts: number[], form: 'bf16' | 'f32') => {
      let state = device.upload(new Float32Array(size), 'f32');
      const pieces = cuts.slice(1).map((end, i) => {
        const its = Object.entries(values).map(([name, of]) => {
          const width = widths[name as Name];
          return [name, of.slice(cuts[i]! * width, end * width)];
        });
        const after = device.allocate(size, 'f32');
        const piece = { ...layout, sequence: end - cuts[i]! };
        const { rows } = run(piece, Object.fromEntries(its) as Values, form, { before: state, after });
        state = after;
        return [...rows.y!];
      });
      return { y: Float32Array.from(pieces.flat()), state: floatsOf(state) };
    };
    const whole = inPieces([0, 136], 'bf16');
    t.deepEqual(whole.y, run(layout, values, 'bf16').rows.y);
    t.deepEqual(inPieces([0, 64, 128, 136], 'bf16'), whole);
    // Cut elsewhere, and by the recurrence.
    for (const other of [inPieces([0, 100, 136], 'bf16'), inPieces([0, 135, 136], 'f32')])
      t.true(Math.max(...Object.values(differences(whole, other))) < 2 ** -7);
  });

  test.serial(`${name}: no order of blocks and threads changes a bit`, (t) => {
    const layout = { ...SIZES, sequence: 80, decays };
    const values = valuesOf(layout);
    const expected = run(layout, values, 'bf16');
    for (const order of ['backward', 'shuffled'] as const) {
      emulator.set({ order });
      t.deepEqual(run(layout, values, 'bf16'), expected, order);
    }
    emulator.set({});
  });
}

test('documents that go one after the other for want of memory have the bits of all together', (t) => {
  const layout = { ...SIZES, sequence: 90, decays: 1, documents: Int32Array.of(0, 5, 6, 80) };
  const values = valuesOf(layout);
  const together = run(layout, values, 'bf16');
  for (const mostBytes of [
    1,
    deltaRuleBytes({ ...layout, documents: Int32Array.of(0, 6) }, 'bf16', true) - 1,
  ])
    t.deepEqual(run(layout, values, 'bf16', undefined, { mostBytes }), together);
  // Of sixteen documents three at a time.
  const large = { batch: 16, sequence: 4096, heads: 16, keyDim: 128, valueDim: 128, decays: 1 };
  const all = deltaRuleBytes({ ...large, batch: 3 }, 'bf16', true);
  t.is(deltaRuleBytes(large, 'bf16', true), all);
});

test('a pass works in as much memory as is told beforehand', (t) => {
  for (const form of ['bf16', 'f32'] as const) {
    for (const isBackward of [false, true]) {
      const layout = { ...SIZES, sequence: 150, decays: 1, documents: Int32Array.of(0, 20) };
      const { device: own } = new Emulator();
      run(layout, valuesOf(layout), form, isBackward ? undefined : {}, { on: own });
      const { peakUsedBytes, usedBytes } = own.arena.statistics();
      const more = peakUsedBytes - usedBytes - deltaRuleBytes(layout, form, isBackward);
      // Who watches memory takes a little more for each array.
      t.true(more >= 0 && more <= 9 * 512, `${form}: ${more} bytes`);
    }
  }
});
