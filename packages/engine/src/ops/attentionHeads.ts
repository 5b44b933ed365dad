/**
 * From the projection of an attention block to its heads (the paper's §2.1; order of operations as in its released
 * code): queries and keys get an RMS norm for each head, whose gain the heads share, and then the rotary embedding;
 * values and gate logits are taken as they are.
 *
 * Shapes: N = B·T tokens; H query heads, K key-value heads, G = H/K query heads for each of them; D channels of a head;
 * W columns of the projection. The columns are those of the paper's widened q_proj (for each key-value head, the G·D
 * columns of its queries, then their G·D elementwise or G headwise gate logits), then K·D of k_proj, then K·D of v_proj.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { fusedOperation, type GradientContext, hasFused, implementFused, runFusedMany } from '../fused.ts';
import { callNative, type KernelArgument } from '../native.ts';
import type { GradientTarget, Parameter } from '../parameter.ts';
import { type AttentionLayout, documentArguments, gateWidth, projectionWidth } from './attentionLayout.ts';
import { rmsNormReference } from './rmsNorm.ts';
import { type RotaryTable, rotaryEmbeddingReference } from './rotaryEmbedding.ts';
import { withTarget } from './withTarget.ts';

/** What attention works on. */
export interface AttentionHeads {
  /** [N, H·D], normalised and rotated. */
  readonly q: tf.Tensor2D;
  /** [N, K·D], normalised and rotated. */
  readonly k: tf.Tensor2D;
  /** [N, K·D]. */
  readonly v: tf.Tensor2D;
  /** Logits, [N, H·D] (elementwise) or [N, H] (headwise); undefined without a gate. */
  readonly gate: tf.Tensor2D | undefined;
}

/** Of queries, keys, values, and gates if there are any. */
type Values = [Float32Array, Float32Array, Float32Array, Float32Array?];

interface Attributes {
  readonly qNorm: Parameter | null;
  readonly kNorm: Parameter | null;
  readonly rotary: RotaryTable;
  readonly layout: AttentionLayout;
}

export const ATTENTION_HEADS = fusedOperation<Attributes>({
  name: 'SluiceAttentionHeads',
  inputsToSave: ['projection'],
  rebuildable: true,
});

/**
 * @param projection_NW the block's input times the stacked q, k and v matrices
 * @param qNorm gains of the queries' norm, [D]; null for no norm
 * @param kNorm gains of the keys' norm, [D]; null for no norm
 * @param rotary for at least T positions
 */
export function attentionHeads(
  projection_NW: tf.Tensor2D,
  qNorm: Parameter | null,
  kNorm: Parameter | null,
  rotary: RotaryTable,
  layout: AttentionLayout,
): AttentionHeads {
  invariant(
    projection_NW.shape[1] === projectionWidth(layout),
    `${projectionWidth(layout)} columns of the projection, not ${projection_NW.shape[1]}`,
  );
  if (!hasFused(ATTENTION_HEADS)) {
    return tf.tidy(() => {
      const gain = (norm: Parameter | null) => norm && (norm.onTape() as tf.Tensor1D);
      return { ...attentionHeadsReference(projection_NW, gain(qNorm), gain(kNorm), rotary, layout) };
    });
  }
  const attributes: Attributes = { qNorm, kNorm, rotary, layout };
  const [q, k, v, gate] = runFusedMany(
    ATTENTION_HEADS,
    { projection: projection_NW },
    attributes,
  ) as tf.Tensor2D[];
  return { q: q!, k: k!, v: v!, gate };
}

/** The definition of `attentionHeads`. */
export function attentionHeadsReference(
  projection_NW: tf.Tensor2D,
  qNorm_D: tf.Tensor1D | null,
  kNorm_D: tf.Tensor1D | null,
  rotary: RotaryTable,
  layout: AttentionLayout,
): AttentionHeads {
  const { batch, sequence, heads, keyValueHeads, headDim, epsilon } = layout;
  const [tokens, queries, keys] = [batch * sequence, heads * headDim, keyValueHeads * headDim];
  const gates = gateWidth(layout);
  const [widened, k, v] = tf.split(projection_NW, [queries + gates, keys, keys], 1) as tf.Tensor2D[];
  const groups_NKS = tf.reshape(widened!, [tokens, keyValueHeads, (queries + gates) / keyValueHeads]);
  const q = tf.slice(groups_NKS, [0, 0, 0], [tokens, keyValueHeads, queries / keyValueHeads]);
  const gate = gates === 0 ? undefined : tf.slice(groups_NKS, [0, 0, queries / keyValueHeads]);
  const normAndRotate = (x: tf.Tensor, gain_D: tf.Tensor1D | null, count: number): tf.Tensor2D => {
    const rows = tf.reshape(x, [tokens * count, headDim]) as tf.Tensor2D;
    const normalised = gain_D ? rmsNormReference(rows, gain_D, epsilon) : rows;
    const row_N = tf.reshape(normalised, [tokens, count * headDim]) as tf.Tensor2D;
    return rotaryEmbeddingReference(row_N, rotary, { ...layout, heads: count });
  };
  return {
    q: normAndRotate(q, qNorm_D, heads),
    k: normAndRotate(k!, kNorm_D, keyValueHeads),
    v: v!,
    gate: gate && tf.reshape(gate, [tokens, gates]),
  };
}

function sizes(layout: AttentionLayout): KernelArgument[] {
  const { heads, keyValueHeads, headDim, epsilon } = layout;
  const gateColumns = gateWidth(layout) / keyValueHeads;
  return [...documentArguments(layout), heads, keyValueHeads, headDim, gateColumns, epsilon];
}

implementFused('native', ATTENTION_HEADS, {
  forward({ input, output, attributes: { qNorm, kNorm, rotary, layout } }) {
    const { batch, sequence, heads, keyValueHeads, headDim, gate } = layout;
    const widths = [heads * headDim, keyValueHeads * headDim, keyValueHeads * headDim];
    if (gate !== 'none') widths.push(gateWidth(layout));
    const outputs = widths.map((width) => output([batch * sequence, width]));
    const [q, k, v, gates = null] = outputs.map(({ values }) => values) as Values;
    const norms = [qNorm?.values ?? null, kNorm?.values ?? null];
    callNative(
      'attentionHeads',
      input('projection'),
      ...norms,
      rotary.cos,
      rotary.sin,
      ...[q, k, v, gates],
      ...sizes(layout),
    );
    return outputs.map(({ info }) => info);
  },
  backward(context, dys, [projection]) {
    const { qNorm, kNorm } = context.attributes;
    const dProjection = context.tensor(projection!.shape);
    const write = (dqNorm: GradientTarget | null, dkNorm: GradientTarget | null) =>
      writeGradients(context, dys, projection!, dProjection.values, dqNorm, dkNorm);
    withTarget(qNorm, (dqNorm) => withTarget(kNorm, (dkNorm) => write(dqNorm, dkNorm)));
    return { projection: dProjection.tensor };
  },
});

function writeGradients(
  { valuesOf, attributes: { qNorm, kNorm, rotary, layout } }: GradientContext<Attributes>,
  dys: readonly tf.Tensor[],
  projection: tf.Tensor,
  dProjection: Float32Array,
  dqNorm: GradientTarget | null,
  dkNorm: GradientTarget | null,
): void {
  const [dq, dk, dv, dGate = null] = dys.map(valuesOf) as Values;
  callNative(
    'attentionHeadsBackward',
    valuesOf(projection),
    qNorm?.values ?? null,
    kNorm?.values ?? null,
    rotary.cos,
    rotary.sin,
    ...[dq, dk, dv, dGate],
    dProjection,
    dqNorm?.values ?? null,
    dkNorm?.values ?? null,
    dqNorm?.accumulate ?? false,
    dkNorm?.accumulate ?? false,
    ...sizes(layout),
  );
}
