/**
 * The attention block of a layer: projections, heads with norm and rotary embedding, attention, output projection; with
 * gates at their positions and controls at their points.
 *
 * Shapes: N tokens, C hidden, H query heads, K key-value heads, G = H/K, D channels of a head. In `q_proj` a gate may be
 * interleaved: for each key-value head the G·D columns of its queries, then those of their gate.
 */

import {
  type AttentionLayout,
  attentionHeads,
  cachedAttention,
  forgetUntilGradient,
  gatedAttention,
  largestLogits,
  linear,
  type RotaryTable,
  rmsNorm,
  whenRead,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import type { BlockContext } from './block.ts';
import type { CopiedProjection } from './controls/control.ts';
import { applyGate, applyScores, gateScores, INTERLEAVED_GATE, interleavedGate } from './gates/gate.ts';
import type { GatePosition } from './gates/positions.ts';
import { gateWeightNorms } from './gates/weightNorms.ts';
import type { KeyValueCache } from './keyValueCache.ts';
import { latentProjection, withoutFilling } from './latentAttention.ts';
import type { LayerModel } from './layers.ts';
import { type ForwardObserver, observesOutput, observeValues } from './observer.ts';
import { projectionWidths } from './parameters.ts';
import type { BlockVariants } from './variants.ts';

/** What is always so of a gate whose rows are interleaved with those of the queries. */
const INTERLEAVED_FORM = {
  activation: 'sigmoid',
  form: 'multiplicative',
  sharing: 'head-specific',
  input: 'query-dependent',
} as const;

/** The pass that a block is part of. */
export interface AttentionPass {
  readonly layer: number;
  readonly sequences: number;
  /** Where documents are kept apart, the first row of each. */
  readonly documents?: Int32Array | undefined;
  /** Keys and values of what comes before the rows, which are then of one sequence. */
  readonly cache: KeyValueCache | undefined;
  readonly rotary: RotaryTable;
  readonly observer?: ForwardObserver | undefined;
}

/** @param x_NC the block's input after its norm */
export function attentionBlock(
  x_NC: tf.Tensor2D,
  variants: BlockVariants,
  pass: AttentionPass,
  context: BlockContext,
): tf.Tensor2D {
  const { config } = variants;
  const gated = (position: GatePosition, y: tf.Tensor2D) =>
    variants.gates
      .filter((gate) => gate.position === position)
      .reduce((gating, gate) => applyGate(gate, gating, x_NC, context), y);
  const { keyValueLatent } = config;
  const latent = keyValueLatent && { ...config, keyValueLatent };
  const projected = linear(x_NC, context.parameter('self_attn.qkv_proj.weight'));
  const projection = latent
    ? latentProjection(projected, projectionWidths(config).query, latent, context)
    : shapedProjection(projected, x_NC, variants, gated, context);
  const layout: AttentionLayout = {
    batch: pass.sequences,
    sequence: x_NC.shape[0] / pass.sequences,
    documents: pass.documents,
    heads: config.numAttentionHeads,
    keyValueHeads: config.numKeyValueHeads,
    headDim: config.headDim,
    gate: interleavedGate(config),
    scoreCap: variants.caps.attention,
    window: config.window,
    epsilon: config.rmsNormEps,
  };
  const norm = (name: 'q_norm' | 'k_norm') => {
    if (config.qkNorm === 'weightless') return variants.weightlessNorms[name];
    // Those of all heads together came before.
    return config.qkNorm === true ? context.gain(`self_attn.${name}.weight`) : null;
  };
  const heads = attentionHeads(projection, norm('q_norm'), norm('k_norm'), pass.rotary, layout);
  if (pass.observer?.gateNorms) {
    for (const { name, norms } of gateWeightNorms(config, context.parameter))
      pass.observer.gateNorms(pass.layer, name, norms);
  }
  if (pass.observer?.attention) observeAttention(pass.observer, heads, layout, variants, pass, context);
  const ofHeads = gated('sdpa', attend(heads, layout, variants, pass, context));
  const attended = latent ? withoutFilling(ofHeads, latent) : ofHeads;
  forgetUntilGradient(heads.q, heads.k, heads.v, heads.gate);
  observeValues(pass.observer, 'gatedAttentionOutput', pass.layer, attended);
  return gated('output', linear(attended, context.parameter('self_attn.o_proj.weight')));
}

function observeAttention(
  observer: ForwardObserver,
  { q, k }: ReturnType<typeof attentionHeads>,
  layout: AttentionLayout,
  { controls }: BlockVariants,
  { layer }: AttentionPass,
  context: BlockContext,
): void {
  const sink = controls.find(({ control }) => control.sinkScores);
  const sinks = sink?.control.sinkScores?.(sink.settings, context);
  whenRead([q, k], (q, k) => observer.attention!(layer, { q, k, sinks, layout }));
}

type Gating = (position: GatePosition, y: tf.Tensor2D) => tf.Tensor2D;

/** The projection as attention takes it: copies merged, queries, keys and values gated. */
function shapedProjection(
  projection: tf.Tensor2D,
  x_NC: tf.Tensor2D,
  { config, gates, controls, isProjectionShaped }: BlockVariants,
  gated: Gating,
  context: BlockContext,
): tf.Tensor2D {
  if (!isProjectionShaped) return projection;
  const merging = controls.find(({ control }) => control.merge);
  const widths = projectionWidths(config);
  const [query, key, value] = tf.split(projection, [widths.query, widths.key, widths.value], 1) as [
    tf.Tensor2D,
    tf.Tensor2D,
    tf.Tensor2D,
  ];
  const merged = (which: CopiedProjection, copies: tf.Tensor2D) =>
    merging?.control.merge?.(merging.settings, which, copies, x_NC, context) ?? copies;
  const isGated = gates.some(({ position }) => position === 'query');
  const isNormed = config.qkNorm === 'all-heads';
  const normed = (name: 'q_norm' | 'k_norm', x: tf.Tensor2D) =>
    isNormed ? rmsNorm(x, context.gain(`self_attn.${name}.weight`), config.rmsNormEps) : x;
  const shapedQueries = (x: tf.Tensor2D) => normed('q_norm', gated('query', x));
  const parts = [
    isGated || isNormed ? changedQueries(query, config, shapedQueries) : query,
    normed('k_norm', gated('key', merged('key', key))),
    gated('value', merged('value', value)),
  ];
  return tf.concat2d(parts, 1);
}

/** Changes the queries among the columns of `q_proj`, all heads of them side by side. */
function changedQueries(
  widened: tf.Tensor2D,
  { numAttentionHeads, numKeyValueHeads, headDim }: LayerModel,
  change: (queries: tf.Tensor2D) => tf.Tensor2D,
): tf.Tensor2D {
  const queries = numAttentionHeads * headDim;
  const [tokens, width] = widened.shape;
  if (width === queries) return change(widened);
  const groups_NKW = tf.reshape(widened, [tokens, numKeyValueHeads, width / numKeyValueHeads]);
  const perGroup = queries / numKeyValueHeads;
  const [query, rest] = tf.split(groups_NKW, [perGroup, width / numKeyValueHeads - perGroup], 2);
  const changed = change(tf.reshape(query!, [tokens, queries]));
  const all = tf.concat([tf.reshape(changed, query!.shape), rest!], 2);
  return tf.reshape(all, [tokens, width]);
}

/**
 * Attention with what controls make of it, and the interleaved gate: inside of the kernel unless a control or an observer
 * comes between.
 */
function attend(
  { q, k, v, gate }: ReturnType<typeof attentionHeads>,
  layout: AttentionLayout,
  { config, controls }: BlockVariants,
  { layer, cache, observer }: AttentionPass,
  context: BlockContext,
): tf.Tensor2D {
  const held = cache?.append(layer, k, v);
  const seen = held && held.tokens > layout.sequence ? held : undefined;
  const instead = controls.find(({ control }) => control.attend);
  const after = controls.filter(({ control }) => control.sdpa);
  const onLargest =
    observer?.largestLogits && ((largest: Float32Array) => observer.largestLogits!(layer, largest));
  if (!instead && after.length === 0 && !observesOutput(observer)) {
    return seen ? cachedAttention(q, seen, gate, layout) : gatedAttention(q, k, v, gate, layout, onLargest);
  }
  if (instead && onLargest) whenRead([q, k], (q, k) => onLargest(largestLogits({ q: q!, k: k!, layout })));
  const plain: AttentionLayout = { ...layout, gate: 'none' };
  let y = instead
    ? instead.control.attend!(instead.settings, { q, k, v, layout: plain, seen }, context)
    : seen
      ? cachedAttention(q, seen, undefined, plain)
      : gatedAttention(q, k, v, undefined, plain, onLargest);
  for (const { control, settings } of after) y = control.sdpa!(settings, y, context);
  const sizes = { heads: config.numAttentionHeads, channels: config.headDim };
  const { keyValueLatent } = config;
  const own = keyValueLatent ? withoutFilling(y, { ...config, keyValueLatent }) : y;
  observeValues(observer, 'attentionOutput', layer, own);
  if (gate) context.onGate?.(INTERLEAVED_GATE, gateScores(INTERLEAVED_FORM, gate, sizes));
  return gate ? applyScores(INTERLEAVED_FORM, y, gate, sizes) : y;
}
