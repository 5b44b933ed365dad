import { type ExpertSegment, expertFeedForward } from '@sluice/engine';
import type * as tf from '@tensorflow/tfjs';
import test from 'ava';
import fc from 'fast-check';
import {
  finiteDifferences,
  type Operands,
  type Operation,
  operand,
  runOperation,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';
import { feedForwardInDoubles } from './support/feedForward.ts';

interface Case {
  readonly segments: readonly ExpertSegment[];
  readonly sources: number;
  readonly operands: Operands;
}

/** Random rows for experts, by expert and then by source; `counts[expert][source]` rows each. */
function caseOf(counts: readonly (readonly number[])[], channels: number, units: number, seed: number): Case {
  const segments: ExpertSegment[] = [];
  let begin = 0;
  counts.forEach((ofSources, expert) => {
    ofSources.forEach((count, source) => {
      // Empty ones are given or left out.
      if (count > 0 || (expert + source) % 2 === 0) segments.push({ expert, source, begin, count });
      begin += count;
    });
  });
  const operands = {
    x: operand(seed, [begin, channels]),
    gateUp: operand(seed + 1, [counts.length, 2 * units, channels]),
    down: operand(seed + 2, [counts.length, channels, units]),
  };
  return { segments, sources: counts[0]!.length, operands };
}

function operationOf({ segments, sources }: Case): Operation {
  return ({ x, gateUp, down }) =>
    expertFeedForward(x!.onTape() as tf.Tensor2D, segments, gateUp!, down!, sources);
}

function run(backend: string, example: Case) {
  return runOperation(backend, operationOf(example), example.operands, example.sources);
}

const anyCount = fc.oneof(fc.constantFrom(0, 1, 2), fc.integer({ min: 3, max: 80 }));
const anyCounts = fc.integer({ min: 1, max: 3 }).chain((sources) =>
  fc.array(fc.array(anyCount, { minLength: sources, maxLength: sources }), {
    minLength: 1,
    maxLength: 5,
  }),
);

test('the native kernel agrees with the reference over random segments', (t) => {
  fc.assert(
    fc.property(
      anyCounts.filter((counts) => counts.flat().some((count) => count > 0)),
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 40 }),
      fc.nat(),
      (counts, channels, units, seed) => {
        const example = caseOf(counts, channels, units, seed);
        t.true(worstError(run('native', example), run('cpu', example)) < 1e-5);
      },
    ),
    { numRuns: 40 },
  );
});

test('the gradient agrees with finite differences in double precision', (t) => {
  const [channels, units] = [4, 6];
  const example = caseOf([[2], [0], [3]], channels, units, 3);
  const expected = finiteDifferences(({ x, gateUp, down }) => {
    const y = new Float64Array(x!.length);
    for (const { expert, begin, count } of example.segments) {
      const size = 2 * units * channels;
      const part = feedForwardInDoubles(
        x!.subarray(begin * channels, (begin + count) * channels),
        gateUp!.subarray(expert * size, (expert + 1) * size),
        down!.subarray((expert * size) / 2, ((expert + 1) * size) / 2),
        channels,
        units,
      );
      y.set(part, begin * channels);
    }
    return y;
  }, example.operands);
  t.true(worstError(run('native', example), expected) < 1e-5);
});

test('the number of threads changes no bit, also of long and very unequal segments', (t) => {
  const example = caseOf(
    [
      [1, 1100],
      [0, 3],
      [70, 0],
    ],
    20,
    30,
    5,
  );
  t.true(threadsChangeNoBit(operationOf(example), example.operands, [1, 2, 3, 64], example.sources));
});

test("a segment's outputs and weight gradients have the same bits alone as among others", (t) => {
  const [channels, units, rows] = [12, 10, 45];
  const together = caseOf([[30], [rows], [7]], channels, units, 8);
  const slice = (name: string, begin: number, end: number, shape: number[]) => ({
    shape,
    values: together.operands[name]!.values.slice(begin, end),
  });
  const size = 2 * units * channels;
  const alone: Case = {
    segments: [{ expert: 0, source: 0, begin: 0, count: rows }],
    sources: 1,
    operands: {
      x: slice('x', 30 * channels, (30 + rows) * channels, [rows, channels]),
      gateUp: slice('gateUp', size, 2 * size, [1, 2 * units, channels]),
      down: slice('down', size / 2, size, [1, channels, units]),
    },
  };
  // The loss's gradient at the output would differ; a loss that is the sum of the squares makes it the same.
  const squares =
    (example: Case): Operation =>
    (parameters) => {
      const y = operationOf(example)(parameters);
      return y.square().sum();
    };
  const all = runOperation('native', squares(together), together.operands);
  const one = runOperation('native', squares(alone), alone.operands);
  t.deepEqual(one.gradients.gateUp, all.gradients.gateUp!.slice(size, 2 * size));
  t.deepEqual(one.gradients.down, all.gradients.down!.slice(size / 2, size));
  t.deepEqual(one.gradients.x, all.gradients.x!.slice(30 * channels, (30 + rows) * channels));
});

test('a peer that gets no rows at all contributes zeros', (t) => {
  const example = caseOf(
    [
      [0, 0],
      [0, 0],
    ],
    4,
    6,
    5,
  );
  const { gradients } = run('native', example);
  t.true(gradients.gateUp!.every((value) => value === 0));
  t.is(gradients.gateUp!.length, 2 * 2 * 12 * 4);
});

test('segments that do not cover the rows, or meet twice, break an invariant', (t) => {
  const example = caseOf([[2], [3]], 4, 6, 5);
  const [first, second] = example.segments as [ExpertSegment, ExpertSegment];
  for (const [segments, message] of [
    [[first], /cover 2 of 5 rows/],
    [[second], /begins at row 2, not at row 0/],
    [[first, { ...second, expert: 0 }], /is there twice/],
    [[first, { ...second, expert: 2 }], /there are 2 experts/],
    [[first, { ...second, source: 1 }], /there are 1 sources/],
  ] as const) {
    t.throws(() => run('native', { ...example, segments }), { message });
  }
});
