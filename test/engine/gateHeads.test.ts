import { gateHeads, setThreads } from '@sluice/engine';
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

interface Case {
  readonly rows: number;
  readonly heads: number;
  readonly channels: number;
  readonly isHeadwise: boolean;
  readonly activation: 'sigmoid' | 'silu';
  readonly isShared: boolean;
}

const gating =
  (gate: Case): Operation =>
  ({ y, logits }) =>
    gateHeads(y!.onTape() as tf.Tensor2D, logits!.onTape() as tf.Tensor2D, gate);

function operandsOf({ rows, heads, channels, isHeadwise }: Case, seed: number): Operands {
  return {
    y: operand(seed, [rows, heads * channels]),
    logits: operand(seed + 1, [rows, heads * (isHeadwise ? 1 : channels)], 3),
  };
}

const anyCase: fc.Arbitrary<Case> = fc.record({
  rows: fc.integer({ min: 0, max: 70 }),
  heads: fc.integer({ min: 1, max: 5 }),
  channels: fc.integer({ min: 1, max: 40 }),
  isHeadwise: fc.boolean(),
  activation: fc.constantFrom('sigmoid', 'silu'),
  isShared: fc.boolean(),
});

test('the native kernel agrees with the reference over random shapes', (t) => {
  setThreads(1);
  fc.assert(
    fc.property(anyCase, fc.nat(), (gate, seed) => {
      const operands = operandsOf(gate, seed);
      const native = runOperation('native', gating(gate), operands);
      return worstError(native, runOperation('cpu', gating(gate), operands)) < 1e-5;
    }),
    { numRuns: 60 },
  );
  t.pass();
});

const KINDS = [true, false].flatMap((isHeadwise) =>
  [true, false].flatMap((isShared) =>
    (['sigmoid', 'silu'] as const).map((activation) => ({ isHeadwise, isShared, activation })),
  ),
);

for (const kind of KINDS) {
  const gate: Case = { rows: 3, heads: 3, channels: 11, ...kind };

  test(`the gradient agrees with finite differences: ${JSON.stringify(kind)}`, (t) => {
    const { rows, heads, channels } = gate;
    const scoresOfHead = kind.isHeadwise ? 1 : channels;
    const operands = operandsOf(gate, 3);
    const expected = finiteDifferences(({ y, logits }) => {
      const score = (row: number, head: number, channel: number) => {
        const x = logits![(row * heads + head) * scoresOfHead + (kind.isHeadwise ? 0 : channel)]!;
        return (kind.activation === 'silu' ? x : 1) / (1 + Math.exp(-x));
      };
      return y!.map((value, i) => {
        const [row, rest] = [Math.floor(i / (heads * channels)), i % (heads * channels)];
        const [head, channel] = [Math.floor(rest / channels), rest % channels];
        if (!kind.isShared) return value * score(row, head, channel);
        let sum = 0;
        for (let other = 0; other < heads; other++) sum += score(row, other, channel);
        return (value * sum) / heads;
      });
    }, operands);
    t.is(expected.output.length, rows * heads * channels);
    t.true(worstError(runOperation('native', gating(gate), operands), expected) < 1e-5);
  });

  test(`the number of threads changes no bit: ${JSON.stringify(kind)}`, (t) => {
    const large = { ...gate, rows: 300 };
    const operands = operandsOf(large, 5);
    t.true(threadsChangeNoBit(gating(large), operands));
  });
}

test('NaN comes out where it went in, and nowhere else', (t) => {
  const gate: Case = {
    rows: 2,
    heads: 2,
    channels: 9,
    isHeadwise: false,
    activation: 'sigmoid',
    isShared: false,
  };
  const operands = operandsOf(gate, 8);
  operands.logits!.values[20] = Number.NaN;
  const { output } = runOperation('native', gating(gate), operands);
  t.deepEqual(
    [...output.keys()].filter((i) => Number.isNaN(output[i]!)),
    [20],
  );
});
