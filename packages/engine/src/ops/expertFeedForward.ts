/**
 * Gated feed-forward of many experts: each segment of rows goes through the weights of its expert, as a product of its
 * own, so that sums over a segment's rows do not depend on what else is computed with it.
 * Shapes: M rows, C channels, E experts, I hidden units of an expert.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import type { Parameter } from '../parameter.ts';
import { gatedFeedForwardReference } from './gatedFeedForward.ts';

export const EXPERT_FEED_FORWARD = fusedOperation<ExpertAttributes>({
  name: 'SluiceExpertFeedForward',
  inputsToSave: ['x'],
});

/** The same of rows from one source, of which the device alone need know how many each expert has. */
export const COUNTED_FEED_FORWARD = fusedOperation<ExpertWeights>({
  name: 'SluiceCountedFeedForward',
  inputsToSave: ['x', 'counts'],
});

/** Neighbouring rows for one expert from one source. */
export interface ExpertSegment {
  readonly expert: number;
  /** Whose tokens they are: an index of peers, which keep their gradients apart. */
  readonly source: number;
  readonly begin: number;
  readonly count: number;
}

export interface ExpertWeights {
  readonly gateUp: Parameter;
  readonly down: Parameter;
  readonly limit?: number | undefined;
}

interface ExpertAttributes extends ExpertWeights {
  readonly segments: readonly ExpertSegment[];
  readonly sources: number;
}

/**
 * @param x_MC rows, segment after segment
 * @param segments cover the rows in order; each pair of source and expert at most once, empty ones may be left out
 * @param gateUp shape [E, 2I, C]: for each expert the gate's rows, then those of `up`
 * @param down shape [E, C, I]
 * @param sources each of them, also one without rows, contributes once to the gradient of each weight
 * @param limit of the hidden units' two factors, as `gatedFeedForward` has it; none when left out
 * @returns [M, C]
 */
export function expertFeedForward(
  x_MC: tf.Tensor2D,
  segments: readonly ExpertSegment[],
  gateUp: Parameter,
  down: Parameter,
  sources = 1,
  limit?: number,
): tf.Tensor2D {
  checkSegments(segments, x_MC.shape[0], gateUp.shape[0]!, sources);
  if (!hasFused(EXPERT_FEED_FORWARD)) {
    return tf.tidy(() => expertFeedForwardReference(x_MC, segments, gateUp, down, sources, limit));
  }
  return runFused(EXPERT_FEED_FORWARD, { x: x_MC }, { segments, gateUp, down, limit, sources });
}

/**
 * `expertFeedForward` of rows from one source, expert after expert.
 * @param counts_E rows of each expert, whole numbers
 */
export function countedFeedForward(
  x_MC: tf.Tensor2D,
  counts_E: tf.Tensor1D,
  gateUp: Parameter,
  down: Parameter,
  limit?: number,
): tf.Tensor2D {
  if (hasFused(COUNTED_FEED_FORWARD)) {
    return runFused(COUNTED_FEED_FORWARD, { x: x_MC, counts: counts_E }, { gateUp, down, limit });
  }
  return expertFeedForward(x_MC, expertSegments(counts_E.dataSync<'int32'>(), 1), gateUp, down, 1, limit);
}

/** One segment for each (peer, own expert), in the order in which the rows lie. @param counts [peers · own experts], peer-major */
export function expertSegments(counts: Int32Array, peers: number): ExpertSegment[] {
  const experts = counts.length / peers;
  let begin = 0;
  return Array.from(counts, (count, i) => {
    begin += count;
    return { source: Math.floor(i / experts), expert: i % experts, begin: begin - count, count };
  });
}

function checkSegments(
  segments: readonly ExpertSegment[],
  rows: number,
  experts: number,
  sources: number,
): void {
  let row = 0;
  const met = new Set<number>();
  for (const { expert, source, begin, count } of segments) {
    const place = `segment of expert ${expert}, source ${source}`;
    invariant(begin === row && count >= 0, `${place} begins at row ${begin}, not at row ${row}`);
    invariant(expert >= 0 && expert < experts, `${place}: there are ${experts} experts`);
    invariant(source >= 0 && source < sources, `${place}: there are ${sources} sources`);
    invariant(!met.has(source * experts + expert), `${place} is there twice`);
    met.add(source * experts + expert);
    row += count;
  }
  invariant(row === rows, `segments cover ${row} of ${rows} rows`);
}

export function expertFeedForwardReference(
  x_MC: tf.Tensor2D,
  segments: readonly ExpertSegment[],
  gateUp: Parameter,
  down: Parameter,
  sources: number,
  limit?: number,
): tf.Tensor2D {
  // Cut by `split`, whose gradient is put together once, not once for each piece.
  const filled = segments.filter(({ count }) => count > 0);
  const weights = Array.from({ length: sources }, (_, source) => [
    matricesOf(gateUp.onTape(source)),
    matricesOf(down.onTape(source)),
  ]);
  const lengths = filled.map(({ count }) => count);
  const inputs = (filled.length > 1 ? tf.split(x_MC as tf.Tensor, lengths) : [x_MC]) as tf.Tensor2D[];
  const outputs = filled.map(({ expert, source }, i) => {
    const [gateUps, downs] = weights[source]! as [tf.Tensor2D[], tf.Tensor2D[]];
    return gatedFeedForwardReference(inputs[i]!, gateUps[expert]!, downs[expert]!, limit);
  });
  const y_MC = outputs.length > 0 ? tf.concat2d(outputs, 0) : (x_MC.clone() as tf.Tensor2D);
  // A source without rows contributes zeros, which only a path to the result makes it do.
  const nothing = weights.flat().map((ofExperts) => tf.mul(tf.sum(ofExperts[0]!), 0));
  return tf.add(y_MC, tf.addN(nothing));
}

/** The matrix of each expert. (TensorFlow.js's gradients of `unstack` and `split` fail where there is one piece.) */
function matricesOf(weight_EOI: tf.Tensor): tf.Tensor2D[] {
  return weight_EOI.shape[0] === 1
    ? [tf.squeeze(weight_EOI, [0])]
    : (tf.unstack(weight_EOI) as tf.Tensor2D[]);
}

/** The lists of experts, first rows and lengths of segments, as the kernels take them. */
function segmentLists(segments: readonly ExpertSegment[]): [number, Int32Array, Int32Array, Int32Array] {
  return [
    segments.length,
    Int32Array.from(segments, ({ expert }) => expert),
    Int32Array.from(segments, ({ begin }) => begin),
    Int32Array.from(segments, ({ count }) => count),
  ];
}

/**
 * Fills the rows of the segments in `y`, and in `preactivations` (rows of 2I), where given, what the gradient needs. Rows of
 * no segment are left alone.
 */
export function feedForwardSegments(
  x: Float32Array,
  segments: readonly ExpertSegment[],
  { gateUp, down, limit = 0 }: ExpertWeights,
  y: Float32Array,
  preactivations: Float32Array | null,
): void {
  const [experts, channels, units] = down.shape as [number, number, number];
  const operands = [x, gateUp.values, down.values, y, preactivations];
  const sizes = [x.length / channels, channels, units, experts];
  callNative('expertFeedForward', ...operands, ...sizes, ...segmentLists(segments), limit);
}

/** @param preactivations become their own gradient; `hidden` (rows of I) and `dx` are filled */
export function feedForwardSegmentsBackward(
  dy: Float32Array,
  segments: readonly ExpertSegment[],
  { gateUp, down, limit = 0 }: ExpertWeights,
  preactivations: Float32Array,
  hidden: Float32Array,
  dx: Float32Array,
): void {
  const [experts, channels, units] = down.shape as [number, number, number];
  const operands = [gateUp.values, down.values, preactivations, dy, hidden, dx];
  const sizes = [dy.length / channels, channels, units, experts];
  callNative('expertFeedForwardBackward', ...operands, ...sizes, ...segmentLists(segments), limit);
}

/**
 * Contributes to the gradients of the weights what follows from `feedForwardSegmentsBackward`, whose `preactivations` and
 * `hidden` these are: once for each of the sources, also where it has no rows.
 */
export function contributeSegments(
  operands: Readonly<Record<'x' | 'preactivations' | 'hidden' | 'dy', Float32Array>>,
  segments: readonly ExpertSegment[],
  { gateUp, down }: ExpertWeights,
  sources: readonly number[],
): void {
  const { x, preactivations, hidden, dy } = operands;
  const contribute = (weight: Parameter, a: Float32Array, b: Float32Array) => {
    const [experts, outputs, inputs] = weight.shape as [number, number, number];
    for (const source of sources) {
      const lists = segmentLists(segments.filter((segment) => segment.source === source));
      weight.contribute(({ values, accumulate }) => {
        const shape = [a.length / outputs, outputs, inputs, experts];
        callNative('expertWeightGradient', a, b, values, ...shape, accumulate, ...lists);
      }, source);
    }
  };
  contribute(down, dy, hidden);
  contribute(gateUp, preactivations, x);
}

implementFused('native', EXPERT_FEED_FORWARD, {
  forward({ input, shape, output, recording, saved, attributes }) {
    const { segments, down } = attributes;
    const rows = shape('x')[0]!;
    const y = output(shape('x'));
    const preactivations = recording ? saved.floats('preactivations', rows * 2 * down.shape[2]!) : null;
    feedForwardSegments(input('x'), segments, attributes, y.values, preactivations);
    return y.info;
  },
  backward({ valuesOf, tensor, saved, attributes }, [dyTensor], [x]) {
    const { segments, down, sources } = attributes;
    const dx = tensor(x!.shape);
    const dy = valuesOf(dyTensor!);
    const hidden = saved.floats('hidden', x!.shape[0]! * down.shape[2]!);
    const preactivations = saved.floats('preactivations');
    feedForwardSegmentsBackward(dy, segments, attributes, preactivations, hidden, dx.values);
    const all = Array.from({ length: sources }, (_, source) => source);
    contributeSegments({ x: valuesOf(x!), preactivations, hidden, dy }, segments, attributes, all);
    return { x: dx.tensor };
  },
});
