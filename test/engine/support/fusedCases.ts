/** Fused operations that `cuda` has, at shapes that fill no tile and no warp, and how far their results are from others. */

import {
  type AttentionLayout,
  addResidual,
  attentionHeads,
  combineTokens,
  dispatchTokens,
  type ExpertSegment,
  embedding,
  expertFeedForward,
  gatedAttention,
  gatedDeltaRule,
  gatedFeedForward,
  gateHeads,
  gateWidth,
  kimiDeltaRule,
  linear,
  linearCrossEntropy,
  type Parameter,
  planDispatch,
  projectionWidth,
  type RowLayout,
  rmsNorm,
  rotaryEmbedding,
  rotaryTable,
  shortConvolution,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import type { Pass } from '../../model/support.ts';
import { documentsOf, layoutOf, withDocuments } from './attention.ts';
import { fromBf16, toBf16 } from './cuda.ts';
import { type Operands, type Operation, type Outcome, operand, runOperation } from './differential.ts';

export interface FusedCase {
  readonly operation: Operation;
  readonly operands: Operands;
  /** Peers whose gradients are kept apart; one when left out. */
  readonly sources?: number;
}

const tape = (parameter: Parameter | undefined) => parameter!.onTape() as tf.Tensor2D;
const IDS = Int32Array.from({ length: 70 }, (_, i) => (i * 7) % 11);
const ELEMENTWISE = withDocuments(layoutOf([2, 35, 2, 2, 32], 'elementwise'), [9, 26, 35]);

/** @param norms whether queries and keys have one */
export function headsCase(layout: AttentionLayout, norms: { q: boolean; k: boolean }): FusedCase {
  const rotary = rotaryTable(layout.sequence, layout.headDim, 10_000);
  return {
    operation: ({ x, q, k }) => {
      const heads = attentionHeads(tape(x), q ?? null, k ?? null, rotary, layout);
      return tf.concat(heads.gate ? [heads.q, heads.k, heads.v, heads.gate] : [heads.q, heads.k, heads.v], 1);
    },
    operands: {
      x: operand(1, [layout.batch * layout.sequence, projectionWidth(layout)], 2),
      ...(norms.q && { q: operand(2, [layout.headDim]) }),
      ...(norms.k && { k: operand(3, [layout.headDim]) }),
    },
  };
}

export function attentionCase(layout: AttentionLayout): FusedCase {
  const { batch, sequence, heads, keyValueHeads, headDim } = layout;
  const rows = (seed: number, width: number) => operand(seed, [batch * sequence, width], 2);
  const isGated = layout.gate !== 'none';
  return {
    operation: ({ q, k, v, gate }) => gatedAttention(tape(q), tape(k), tape(v), gate && tape(gate), layout),
    operands: {
      q: rows(1, heads * headDim),
      k: rows(2, keyValueHeads * headDim),
      v: rows(3, keyValueHeads * headDim),
      ...(isGated && { gate: rows(4, gateWidth(layout)) }),
    },
  };
}

function gateCase(activation: 'sigmoid' | 'silu', isShared: boolean, isHeadwise: boolean): FusedCase {
  const gate = { heads: 3, channels: 40, activation, isShared };
  return {
    operation: ({ y, logits }) => gateHeads(tape(y), tape(logits), gate),
    operands: { y: operand(1, [19, 120]), logits: operand(2, [19, isHeadwise ? 3 : 120], 3) },
  };
}

export function feedForwardCase(channels: number, limit?: number): FusedCase {
  return {
    operation: ({ x, gateUp, down }) => gatedFeedForward(tape(x), gateUp!, down!, limit),
    operands: {
      x: operand(1, [70, channels]),
      gateUp: operand(2, [144, channels]),
      down: operand(3, [channels, 72]),
    },
  };
}

/** Halves, of which bf16 holds the products and their sums, so that no rounding takes anything over a limit. */
function inHalves({ operation, operands }: FusedCase): FusedCase {
  const halves = Object.entries(operands).map(([name, { shape, values }]) => [
    name,
    { shape, values: values.map((value) => Math.round(2 * value) / 2) },
  ]);
  return { operation, operands: Object.fromEntries(halves) };
}

function crossEntropyCase(cap?: number): FusedCase {
  const targets = IDS.map((id, i) => (i % 5 === 0 ? -1 : id));
  return {
    operation: ({ x, weight }) => linearCrossEntropy(tape(x), weight!, targets, { scale: 0.25, cap }),
    operands: { x: operand(1, [70, 40]), weight: operand(2, [16, 40]) },
  };
}

function convolutionCase(activation: 'none' | 'silu', rows: RowLayout, taps: number): FusedCase {
  return {
    operation: ({ x, weight }) => shortConvolution(tape(x), weight!, { ...rows, activation }),
    operands: {
      x: operand(1, [rows.batch * rows.sequence, 21]),
      weight: operand(2, [21, 1, taps]),
    },
  };
}

/** Two value heads share a key head; documents end within chunks, and columns fill no block. */
const RULE = { batch: 2, sequence: 40, documents: documentsOf([5, 35, 33, 7]), keyDim: 24, valueDim: 40 };

function deltaRuleCase(): FusedCase {
  const layout = { ...RULE, keyHeads: 1, valueHeads: 2, allowNegativeEigenvalues: true };
  return {
    operation: ({ heads, logits, aLog, dtBias }) =>
      gatedDeltaRule(tape(heads), tape(logits), { aLog: aLog!, dtBias: dtBias! }, layout),
    operands: {
      ...{ heads: operand(1, [80, 2 * 24 + 2 * 40], 2), logits: operand(2, [80, 4], 3) },
      ...{ aLog: operand(3, [2]), dtBias: operand(4, [2]) },
    },
  };
}

function kimiRuleCase(): FusedCase {
  const layout = { ...RULE, heads: 2 };
  return {
    operation: ({ heads, beta, decay, aLog, dtBias }) =>
      kimiDeltaRule(
        { heads: tape(heads), beta: tape(beta), decay: tape(decay) },
        { aLog: aLog!, dtBias: dtBias! },
        layout,
      ),
    operands: {
      ...{ heads: operand(1, [80, 2 * (2 * 24 + 40)], 2), beta: operand(2, [80, 2], 3) },
      ...{ decay: operand(3, [80, 48], 3), aLog: operand(4, [2]), dtBias: operand(5, [48]) },
    },
  };
}

/** Rows for three experts from two peers, which have none for some. */
function expertsCase(): FusedCase {
  const counts = [
    [9, 0],
    [0, 0],
    [1, 70],
  ];
  let begin = 0;
  const segments: ExpertSegment[] = counts.flatMap((ofSources, expert) =>
    ofSources.map((count, source) => {
      begin += count;
      return { expert, source, begin: begin - count, count };
    }),
  );
  return {
    operation: ({ x, gateUp, down }) => expertFeedForward(tape(x), segments, gateUp!, down!, 2),
    operands: { x: operand(1, [80, 24]), gateUp: operand(2, [3, 32, 24]), down: operand(3, [3, 24, 16]) },
    sources: 2,
  };
}

/** Two of four experts for each of 17 tokens. */
function plan() {
  const chosen = Int32Array.from({ length: 34 }, (_, slot) => (slot % 2 === 0 ? slot % 3 : 3));
  return planDispatch(tf.tensor2d(chosen, [17, 2], 'int32'), 4);
}

/** Shapes that fill no tile, no warp, and no part of a sum over tokens. */
export const FUSED_CASES: Readonly<Record<string, FusedCase>> = {
  'RMS norm': {
    operation: ({ x, weight }) => rmsNorm(tape(x), weight!, 1e-6),
    operands: { x: operand(1, [70, 40], 3), weight: operand(2, [40]) },
  },
  'RMS norm of an odd width': {
    operation: ({ x, weight }) => rmsNorm(tape(x), weight!, 1e-6),
    operands: { x: operand(1, [3, 21], 3), weight: operand(2, [21]) },
  },
  sum: {
    operation: ({ x, y }) => addResidual(tape(x), tape(y)),
    operands: { x: operand(1, [7, 41]), y: operand(2, [7, 41]) },
  },
  'sum with itself': {
    operation: ({ x }) => {
      const values = tape(x);
      return addResidual(values, values);
    },
    operands: { x: operand(1, [7, 41]) },
  },
  linear: {
    operation: ({ x, weight }) => linear(tape(x), weight!),
    operands: { x: operand(1, [70, 72]), weight: operand(2, [136, 72]) },
  },
  'linear of other widths': {
    operation: ({ x, weight }) => linear(tape(x), weight!),
    operands: { x: operand(1, [7, 13]), weight: operand(2, [5, 13]) },
  },
  'linear in single precision': {
    operation: ({ x, weight }) => linear(tape(x), weight!, 'single'),
    operands: { x: operand(1, [20, 16]), weight: operand(2, [8, 16]) },
  },
  'feed-forward': feedForwardCase(40),
  'feed-forward within a limit': inHalves(feedForwardCase(8, 0.75)),
  embedding: {
    operation: ({ weight }) => embedding(IDS, weight!),
    operands: { weight: operand(1, [12, 40]) },
  },
  'rotary embedding': {
    operation: ({ x }) => rotaryEmbedding(tape(x), rotaryTable(35, 32, 10_000), ELEMENTWISE),
    operands: { x: operand(1, [70, 128]) },
  },
  'heads with norms': headsCase(ELEMENTWISE, { q: true, k: true }),
  'heads with a headwise gate': headsCase(layoutOf([1, 20, 2, 3, 8], 'headwise'), { q: false, k: true }),
  'heads of 128 channels': headsCase(layoutOf([1, 9, 1, 1, 128], 'none'), { q: false, k: false }),
  'gated attention': attentionCase(ELEMENTWISE),
  'attention in a window': attentionCase({ ...layoutOf([1, 70, 1, 2, 32], 'none'), window: 20 }),
  'attention with a headwise gate': attentionCase(layoutOf([1, 20, 2, 1, 64], 'headwise')),
  'attention of capped scores': attentionCase({ ...ELEMENTWISE, scoreCap: 3 }),
  'gate of each head': gateCase('sigmoid', false, false),
  'gate shared by the heads': gateCase('silu', true, false),
  'headwise gate': gateCase('silu', false, true),
  'headwise gate shared by the heads': gateCase('sigmoid', true, true),
  'tokens to experts': {
    operation: ({ x }) => dispatchTokens(tape(x), plan()),
    operands: { x: operand(1, [17, 21]) },
  },
  'tokens from experts': {
    operation: ({ y, weights }) => combineTokens(tape(y), tape(weights), plan()),
    operands: { y: operand(1, [34, 40]), weights: operand(2, [17, 2]) },
  },
  'short convolution': convolutionCase('silu', ELEMENTWISE, 4),
  'short convolution without an activation': convolutionCase('none', { batch: 3, sequence: 2 }, 5),
  'gated delta rule': deltaRuleCase(),
  'delta rule with a decay of each channel': kimiRuleCase(),
  experts: expertsCase(),
  'cross-entropy': crossEntropyCase(),
  'cross-entropy of capped logits': crossEntropyCase(3),
};

/** The case with operands that bf16 holds; what has weights uses them twice, so that their gradients are added to. */
export function runCase(backend: string, { operation, operands, sources }: FusedCase): Outcome {
  const rounded = Object.entries(operands).map(([name, { shape, values }]) => [
    name,
    { shape, values: fromBf16(toBf16(values)) },
  ]);
  const twice: Operation = (parameters) => tf.add(operation(parameters), operation(parameters));
  return runOperation(backend, twice, Object.fromEntries(rounded), sources);
}

/** The largest difference as a share of the largest value. */
export function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const own = Math.abs(actual[i]! - expected[i]!);
    if (!(own <= difference)) difference = own;
    size = Math.max(size, Math.abs(expected[i]!));
  }
  return difference / size;
}

/** Of a result and each gradient. */
export function largestDifferences(
  { output, gradients }: Outcome,
  expected: Outcome,
): Record<string, number> {
  const ofGradients = Object.keys(expected.gradients).map((name) => [
    name,
    largestDifference(gradients[name]!, expected.gradients[name]!),
  ]);
  return { output: largestDifference(output, expected.output), ...Object.fromEntries(ofGradients) };
}

/** Of a decoder's logits and gradients. */
export function passDifferences(pass: Pass, expected: Pass): Record<string, number> {
  const asOutcome = ({ logits, gradients }: Pass) => ({ output: logits, gradients });
  return largestDifferences(asOutcome(pass), asOutcome(expected));
}
