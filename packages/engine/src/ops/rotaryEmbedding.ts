/**
 * Rotary position embedding (Su et al., RoFormer, 2021), in the rotate-half convention of Hugging Face: channels i and
 * i + D/2 of a head form a pair, which is turned by the angle t·θ^(−2i/D) at position t.
 */

import { elementary } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import { type AttentionLayout, documentArguments, documentStarts } from './attentionLayout.ts';

export const ROTARY_EMBEDDING = fusedOperation<{
  readonly table: RotaryTable;
  readonly layout: RotaryLayout;
}>({
  name: 'SluiceRotaryEmbedding',
  inputsToSave: [],
});

/** Cosine and sine of the angle of every pair at every position, each [T, D/2] row-major. */
export interface RotaryTable {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

export type RotaryLayout = Pick<AttentionLayout, 'batch' | 'sequence' | 'documents' | 'heads' | 'headDim'>;

/**
 * Angles are computed in double precision.
 * @param sequence positions, from 0
 * @param headDim channels of a head; even
 * @param theta the base of the wavelengths (`rope_theta`)
 */
export function rotaryTable(sequence: number, headDim: number, theta: number): RotaryTable {
  const frequencies = Float64Array.from({ length: headDim / 2 }, (_, i) =>
    elementary.power(theta, (-2 * i) / headDim),
  );
  return rotaryTableOf(sequence, frequencies);
}

/**
 * The table of any frequencies; angles are computed in double precision.
 * @param sequence positions, from 0
 * @param frequencies of each pair of channels, radians a position
 * @param amplitude factor of all cosines and sines
 */
export function rotaryTableOf(sequence: number, frequencies: ArrayLike<number>, amplitude = 1): RotaryTable {
  const half = frequencies.length;
  const table = { cos: new Float32Array(sequence * half), sin: new Float32Array(sequence * half) };
  for (let at = 0; at < sequence * half; at++) {
    const [sin, cos] = elementary.sinCos(Math.floor(at / half) * frequencies[at % half]!);
    table.cos[at] = amplitude * cos;
    table.sin[at] = amplitude * sin;
  }
  return table;
}

/**
 * @param x [B·T, H·D]
 * @returns x with every head turned to its position
 */
export function rotaryEmbedding(x: tf.Tensor2D, table: RotaryTable, layout: RotaryLayout): tf.Tensor2D {
  if (!hasFused(ROTARY_EMBEDDING)) return tf.tidy(() => rotaryEmbeddingReference(x, table, layout));
  return runFused(ROTARY_EMBEDDING, { x }, { table, layout });
}

/** The definition of `rotaryEmbedding`. */
export function rotaryEmbeddingReference(
  x: tf.Tensor2D,
  { cos, sin }: RotaryTable,
  layout: RotaryLayout,
): tf.Tensor2D {
  const { batch, sequence, heads, headDim } = layout;
  const cos_BT1I = atPositions(cos, layout);
  const sin_BT1I = atPositions(sin, layout);
  const [first, second] = tf.split(tf.reshape(x, [batch, sequence, heads, headDim]), 2, 3) as [
    tf.Tensor,
    tf.Tensor,
  ];
  const turned = [
    tf.sub(tf.mul(first, cos_BT1I), tf.mul(second, sin_BT1I)),
    tf.add(tf.mul(second, cos_BT1I), tf.mul(first, sin_BT1I)),
  ];
  return tf.reshape(tf.concat(turned, 3), [batch * sequence, heads * headDim]);
}

/** The rows of a table that belong to the positions, [B, T, 1, D/2], or [1, T, 1, D/2] where they are all sequences' alike. */
function atPositions(table: Float32Array, layout: RotaryLayout): tf.Tensor4D {
  const { batch, sequence, documents } = layout;
  const half = layout.headDim / 2;
  const table_PI = tf.tensor2d(table, [table.length / half, half]);
  if (!documents) return tf.reshape(tf.slice(table_PI, 0, sequence), [1, sequence, 1, half]);
  const position_N = tf.tensor1d(
    documentStarts(layout).map((start, row) => row - start),
    'int32',
  );
  return tf.reshape(tf.gather(table_PI, position_N), [batch, sequence, 1, half]);
}

function turn(
  x: Float32Array,
  y: Float32Array,
  { cos, sin }: RotaryTable,
  layout: RotaryLayout,
  back: boolean,
): void {
  const { heads, headDim } = layout;
  callNative('rotaryEmbedding', x, cos, sin, y, ...documentArguments(layout), heads, headDim, back);
}

implementFused('native', ROTARY_EMBEDDING, {
  forward({ input, shape, output, attributes: { table, layout } }) {
    const y = output(shape('x'));
    turn(input('x'), y.values, table, layout, false);
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: { table, layout } }, [dy]) {
    const dx = tensor(dy!.shape);
    turn(valuesOf(dy!), dx.values, table, layout, true);
    return { x: dx.tensor };
  },
});
