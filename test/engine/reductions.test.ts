import {
  addRounded,
  roundToBfloat16,
  type SummableArray,
  setThreads,
  squaredNorms,
  sumInto,
  sumTree,
  sumTreeBfloat16,
} from '@sluice/engine';
import test from 'ava';
import fc from 'fast-check';
import { randomValues, relativeError } from './support/differential.ts';

const sameBytes = (a: ArrayBufferView, b: ArrayBufferView) =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

test('squared norms are those of each block', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 3000 }),
      fc.integer({ min: 1, max: 700 }),
      fc.nat(),
      (length, block, seed) => {
        const values = randomValues(seed, length, 10);
        const expected = new Float64Array(Math.ceil(length / block));
        for (let i = 0; i < length; i++) expected[Math.floor(i / block)]! += values[i]! ** 2;
        const actual = squaredNorms(values, block);
        t.is(actual.length, expected.length);
        t.true(relativeError(actual, expected) < 1e-14);
      },
    ),
  );
});

test('a block’s squared norm does not depend on who owns it, nor on threads', (t) => {
  const values = randomValues(1, 4096 * 40 + 100);
  setThreads(3);
  const whole = squaredNorms(values);
  setThreads(1);
  const pieces = [0, 3, 17, 18, 41].flatMap((first, i, firsts) => {
    const end = firsts[i + 1];
    return [...squaredNorms(values.subarray(first * 4096, end === undefined ? undefined : end * 4096))];
  });
  t.true(sameBytes(whole, Float64Array.from(pieces)));
});

test('squared norms neither overflow nor lose small values', (t) => {
  t.deepEqual(
    [...squaredNorms(Float32Array.of(3e38, 4e-23), 1)],
    [Math.fround(3e38) ** 2, Math.fround(4e-23) ** 2],
  );
  t.true(Number.isNaN(squaredNorms(Float32Array.of(1, Number.NaN))[0]!));
});

/** The order that the documentation promises. */
function sumByHalves(values: readonly number[], round: (value: number) => number): number {
  if (values.length === 1) return values[0]!;
  let left = 1;
  while (left * 2 < values.length) left *= 2;
  return round(sumByHalves(values.slice(0, left), round) + sumByHalves(values.slice(left), round));
}

const KINDS: readonly [string, (values: Float32Array) => SummableArray, (value: number) => number][] = [
  ['float32', (values) => values, Math.fround],
  ['float64', (values) => Float64Array.from(values), (value) => value],
  ['int32', (values) => Int32Array.from(values, (value) => value * 2e9), (value) => value | 0],
];

for (const [name, convert, round] of KINDS) {
  test(`a sum of many ${name} arrays is formed by halves, whatever the target`, (t) => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 0, max: 5000 }),
        fc.nat(),
        (number, length, seed) => {
          const sources = Array.from({ length: number }, (_, i) => convert(randomValues(seed + i, length)));
          const expected = sources[0]!.map((_, j) =>
            sumByHalves(
              sources.map((source) => source[j]!),
              round,
            ),
          );
          const apart = sources[0]!.slice();
          sumTree(apart, sources);
          t.true(sameBytes(apart, expected));
          const target = sources[seed % number]!;
          sumTree(target, sources);
          t.true(sameBytes(target, expected));
        },
      ),
      { numRuns: 20 },
    );
  });
}

test('adding in place agrees with plain addition, from any start and on any number of threads', (t) => {
  const [a, b] = [randomValues(1, 60_000), randomValues(2, 60_000)];
  const expected = a.map((value, i) => value + b[i]!);
  for (const threads of [1, 3]) {
    setThreads(threads);
    const target = a.slice();
    sumInto(target.subarray(0, 7), b.subarray(0, 7));
    sumInto(target.subarray(7, 40_011), b.subarray(7, 40_011));
    sumInto(target.subarray(40_011), b.subarray(40_011));
    t.true(sameBytes(target, expected));
  }
  setThreads(1);
});

test('arrays in shared memory are summed in place', (t) => {
  const [a, b] = [1, 2].map((value) => new Float32Array(new SharedArrayBuffer(40)).fill(value)) as [
    Float32Array,
    Float32Array,
  ];
  sumInto(a, b);
  t.deepEqual([...a], Array(10).fill(3));
});

test('arrays of different lengths are refused', (t) => {
  t.throws(() => sumInto(new Float32Array(3), new Float32Array(4)), { message: /4 values .* to 3/ });
});

/** To the nearest number with 8 significant bits, ties to the even one; by exact arithmetic on doubles. */
function bfloat16Of(value: number): number {
  if (value === 0 || !Number.isFinite(value)) return value;
  const magnitude = Math.abs(value);
  const unit = 2 ** (Math.max(Math.floor(Math.log2(magnitude)), -126) - 7);
  const below = Math.floor(magnitude / unit);
  const rest = magnitude / unit - below;
  const up = rest > 0.5 || (rest === 0.5 && below % 2 !== 0);
  const rounded = (up ? below + 1 : below) * unit;
  return Math.sign(value) * (rounded >= 2 ** 128 ? Number.POSITIVE_INFINITY : rounded);
}

/** Every two partial sums are rounded before they are added; the last sum is not. */
function sumRounded(values: readonly number[]): number {
  if (values.length === 1) return values[0]!;
  let left = 1;
  while (left * 2 < values.length) left *= 2;
  const [a, b] = [values.slice(0, left), values.slice(left)].map((half) => bfloat16Of(sumRounded(half)));
  return Math.fround(a! + b!);
}

const floatsOf = (halves: Uint16Array) =>
  new Float32Array(Uint32Array.from(halves, (half) => half * 0x10000).buffer);

const rounded = (values: Float32Array) => {
  const halves = new Uint16Array(values.length);
  roundToBfloat16(values, halves);
  return halves;
};

test('numbers are rounded to the nearest bfloat16, ties to even, and what is no number stays that', (t) => {
  const [tieDown, tieUp] = [1 + 2 ** -8, 1 + 3 * 2 ** -8];
  const values = Float32Array.of(
    ...[0, -0, 1, tieDown, tieUp, tieUp + 2 ** -20, 2 ** -130, 5e-45, 3.4e38, -3.4e38],
    ...[Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  );
  t.deepEqual([...floatsOf(rounded(values))], [...values].map(bfloat16Of));
  // Not a number, by bits that the upper half lacks.
  const hidden = new Float32Array(Uint32Array.of(0x7f800001, 0xffffffff).buffer);
  t.true(floatsOf(rounded(hidden)).every(Number.isNaN));
  fc.assert(
    fc.property(fc.float({ noNaN: true }), (value) =>
      Object.is(floatsOf(rounded(Float32Array.of(value)))[0], bfloat16Of(value)),
    ),
    { numRuns: 2000 },
  );
});

test('rounded partial sums have the same bits wherever some of them were added before', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 40 }),
      fc.integer({ min: 0, max: 3000 }),
      fc.constantFrom(1, 3),
      fc.nat(),
      (number, length, threads, seed) => {
        setThreads(threads);
        const sources = Array.from({ length: number }, (_, i) =>
          randomValues(seed + i, length, 10 ** (i % 3)),
        );
        const expected = sources[0]!.map((_, j) => sumRounded(sources.map((source) => source[j]!)));
        const all = new Float32Array(length);
        sumTreeBfloat16(all, sources.map(rounded));
        // By two who each have a half.
        let left = 1;
        while (left * 2 < number) left *= 2;
        const halves = [sources.slice(0, left), sources.slice(left)].map((part) => {
          const sum = part[0]!.slice();
          if (part.length > 1) sumTreeBfloat16(sum, part.map(rounded));
          return sum;
        });
        addRounded(halves[0]!, halves[1]!);
        setThreads(1);
        return sameBytes(all, expected) && sameBytes(halves[0]!, expected);
      },
    ),
    { numRuns: 30 },
  );
  t.throws(() => addRounded(new Float32Array(3), new Float32Array(4)), { message: /4 values .* to 3/ });
});
