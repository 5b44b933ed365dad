/**
 * Causal depthwise convolution over the last K tokens, as it stands before the recurrence of linear-attention layers (there with
 * a SiLU) and is the mixer of others: y[t] = Σ_{i<K} w[:, K−1−i] ⊙ x[t−i], and silu of that. What comes before a document's first
 * token counts as zeros.
 *
 * Shapes: B sequences of T tokens, N = B·T rows; C channels; K taps, of which the last belongs to the token itself.
 */

import { invariant } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import type { Parameter } from '../parameter.ts';
import { documentArguments, documentStarts, type RowLayout } from './attentionLayout.ts';

export const SHORT_CONVOLUTION = fusedOperation<Attributes>({
  name: 'SluiceShortConvolution',
  inputsToSave: ['x'],
  rebuildable: true,
});

export interface ShortConvolution extends RowLayout {
  readonly activation: 'none' | 'silu';
}

interface Attributes {
  readonly weight: Parameter;
  readonly convolution: ShortConvolution;
}

/**
 * @param x_NC activations
 * @param weight [C, 1, K]
 * @returns [N, C]
 */
export function shortConvolution(
  x_NC: tf.Tensor2D,
  weight: Parameter,
  convolution: ShortConvolution,
): tf.Tensor2D {
  const [channels, one] = weight.shape;
  invariant(
    weight.shape.length === 3 && channels === x_NC.shape[1] && one === 1,
    `weights of ${x_NC.shape[1]} channels`,
  );
  if (!hasFused(SHORT_CONVOLUTION))
    return tf.tidy(() => shortConvolutionReference(x_NC, weight.onTape() as tf.Tensor3D, convolution));
  const attributes: Attributes = { weight, convolution };
  return runFused(SHORT_CONVOLUTION, { x: x_NC }, attributes);
}

/** The definition of `shortConvolution`. */
export function shortConvolutionReference(
  x_NC: tf.Tensor2D,
  weight_C1K: tf.Tensor3D,
  { activation, ...rows }: ShortConvolution,
): tf.Tensor2D {
  const [tokens, channels] = x_NC.shape;
  const taps = weight_C1K.shape[2];
  const starts = documentStarts(rows);
  const terms = Array.from({ length: taps }, (_, back) => {
    const w_C = tf.reshape(tf.slice(weight_C1K, [0, 0, taps - 1 - back], [channels, 1, 1]), [channels]);
    const kept = Math.max(0, tokens - back);
    const earlier_NC = tf.concat(
      [tf.zeros([tokens - kept, channels]), tf.slice2d(x_NC, [0, 0], [kept, -1])],
      0,
    );
    const isSeen_N1 = Float32Array.from(starts, (start, row) => (row - start >= back ? 1 : 0));
    return tf.mul(tf.mul(earlier_NC, tf.tensor2d(isSeen_N1, [tokens, 1])), w_C);
  });
  const z_NC = tf.addN(terms) as tf.Tensor2D;
  return activation === 'silu' ? tf.mul(z_NC, tf.sigmoid(z_NC)) : z_NC;
}

/**
 * The convolution of tokens that follow others, whose last inputs are kept from call to call: the same bits as for the whole
 * sequence, wherever it is cut. For inference; it has no gradient.
 * @param x_TC inputs of the new tokens
 * @param earlier the inputs of the K − 1 tokens before, [K − 1, C], zeros before the first; those of the new tokens take their place
 * @returns [T, C]
 */
export function cachedShortConvolution(
  x_TC: tf.Tensor2D,
  weight: Parameter,
  activation: ShortConvolution['activation'],
  earlier: Float32Array,
): tf.Tensor2D {
  const [tokens, channels] = x_TC.shape;
  const kept = weight.shape[2]! - 1;
  invariant(earlier.length === kept * channels, `inputs of ${kept} earlier tokens`);
  return tf.tidy(() => {
    const all_SC = tf.concat2d([tf.tensor2d(earlier.slice(), [kept, channels]), x_TC], 0);
    const y_SC = shortConvolution(all_SC, weight, { batch: 1, sequence: kept + tokens, activation });
    earlier.set(tf.slice2d(all_SC, [tokens, 0], [kept, channels]).dataSync<'float32'>());
    return tf.slice2d(y_SC, [kept, 0], [tokens, channels]);
  });
}

implementFused('native', SHORT_CONVOLUTION, {
  forward({ input, shape, output, attributes: { weight, convolution } }) {
    const y = output(shape('x'));
    callNative('shortConvolution', input('x'), weight.values, y.values, ...sizes(weight, convolution));
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: { weight, convolution } }, [dy], [x]) {
    const dx = tensor(x!.shape);
    weight.contribute(({ values, accumulate }) => {
      const arrays = [valuesOf(x!), weight.values, valuesOf(dy!), dx.values, values];
      callNative('shortConvolutionBackward', ...arrays, ...sizes(weight, convolution), accumulate);
    });
    return { x: dx.tensor };
  },
});

function sizes(weight: Parameter, { activation, ...rows }: ShortConvolution) {
  const [channels, , taps] = weight.shape as [number, number, number];
  return [...documentArguments(rows), channels, taps, activation === 'silu'] as const;
}
