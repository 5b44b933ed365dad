/**
 * Rotary position embedding (Su et al., RoFormer, 2021), in the rotate-half convention of Hugging Face: channels i and
 * i + D/2 of a head form a pair, which is turned by the angle t·θ^(−2i/D) at position t.
 */

import { elementary } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { hasFused, registerFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import type { AttentionLayout } from './attentionLayout.ts';

const KERNEL = 'SluiceRotaryEmbedding';

/** Cosine and sine of the angle of every pair at every position, each [T, D/2] row-major. */
export interface RotaryTable {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

export type RotaryLayout = Pick<AttentionLayout, 'batch' | 'sequence' | 'heads' | 'headDim'>;

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
  if (!hasFused(KERNEL)) return tf.tidy(() => rotaryEmbeddingReference(x, table, layout));
  return runFused(KERNEL, { x }, { table, layout });
}

/** The definition of `rotaryEmbedding`. */
export function rotaryEmbeddingReference(
  x: tf.Tensor2D,
  { cos, sin }: RotaryTable,
  { batch, sequence, heads, headDim }: RotaryLayout,
): tf.Tensor2D {
  const half = headDim / 2;
  const cos_1T1I = tf.tensor4d(cos, [1, cos.length / half, 1, half]).slice(0, [1, sequence, 1, half]);
  const sin_1T1I = tf.tensor4d(sin, [1, sin.length / half, 1, half]).slice(0, [1, sequence, 1, half]);
  const [first, second] = tf.split(tf.reshape(x, [batch, sequence, heads, headDim]), 2, 3) as [
    tf.Tensor,
    tf.Tensor,
  ];
  const turned = [
    tf.sub(tf.mul(first, cos_1T1I), tf.mul(second, sin_1T1I)),
    tf.add(tf.mul(second, cos_1T1I), tf.mul(first, sin_1T1I)),
  ];
  return tf.reshape(tf.concat(turned, 3), [batch * sequence, heads * headDim]);
}

function turn(
  x: Float32Array,
  y: Float32Array,
  { cos, sin }: RotaryTable,
  { batch, sequence, heads, headDim }: RotaryLayout,
  back: boolean,
): void {
  callNative('rotaryEmbedding', x, cos, sin, y, batch * sequence, sequence, heads, headDim, back);
}

registerFused<{ table: RotaryTable; layout: RotaryLayout }>({
  name: KERNEL,
  inputsToSave: [],
  forward({ floats, shape, output, attributes: { table, layout } }) {
    const y = output(shape('x'));
    turn(floats('x'), y.values, table, layout, false);
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: { table, layout } }, [dy]) {
    const dx = tensor(dy!.shape);
    turn(valuesOf(dy!), dx.values, table, layout, true);
    return { x: dx.tensor };
  },
});
