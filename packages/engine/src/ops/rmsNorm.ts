/**
 * RMS norm over the channels: y = x / √(mean(x²) + ε) · w (Zhang & Sennrich, 2019), as in the paper's blocks (§1.1).
 * Shapes: N tokens, C channels.
 */

import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';
import type { Parameter } from '../parameter.ts';

export const RMS_NORM = fusedOperation<{ readonly weight: Parameter; readonly epsilon: number }>({
  name: 'SluiceRmsNorm',
  inputsToSave: ['x'],
  rebuildable: true,
});

/**
 * @param x_NC activations
 * @param weight gain of each channel, shape [C]
 * @param epsilon added to the mean square
 * @returns [N, C]
 */
export function rmsNorm(x_NC: tf.Tensor2D, weight: Parameter, epsilon: number): tf.Tensor2D {
  if (!hasFused(RMS_NORM))
    return tf.tidy(() => rmsNormReference(x_NC, weight.onTape() as tf.Tensor1D, epsilon));
  return runFused(RMS_NORM, { x: x_NC }, { weight, epsilon });
}

export function rmsNormReference(x_NC: tf.Tensor2D, weight_C: tf.Tensor1D, epsilon: number): tf.Tensor2D {
  const meanSquare_N1 = tf.mean(tf.square(x_NC), 1, true);
  return tf.mul(tf.mul(x_NC, tf.rsqrt(tf.add(meanSquare_N1, epsilon))), weight_C);
}

implementFused('native', RMS_NORM, {
  forward({ input, shape, output, attributes: { weight, epsilon } }) {
    const [rows, width] = shape('x') as [number, number];
    const y = output([rows, width]);
    callNative('rmsNorm', input('x'), weight.values, y.values, rows, width, epsilon);
    return y.info;
  },
  backward({ valuesOf, tensor, attributes: { weight, epsilon } }, [dy], [x]) {
    const [rows, width] = x!.shape as [number, number];
    const dx = tensor([rows, width]);
    weight.contribute(({ values, accumulate }) => {
      const arrays = [valuesOf(x!), weight.values, valuesOf(dy!), dx.values, values];
      callNative('rmsNormBackward', ...arrays, rows, width, epsilon, accumulate);
    });
    return { x: dx.tensor };
  },
});
