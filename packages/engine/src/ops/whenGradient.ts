/** An identity that tells when the backward pass goes by. */

import * as tf from '@tensorflow/tfjs';
import { whenRead } from '../reads.ts';
import { isRecording } from '../tape.ts';

/**
 * Gives `x` unchanged; during the backward pass `announce` is called once the gradients of everything computed from the
 * result are complete (where these wait to be read, after that). Dispose both `x` and the result.
 */
export function whenGradient<T extends tf.Tensor>(x: T, announce: () => void): T {
  if (!isRecording()) return x.clone() as T;
  const marked = tf.customGrad((input) => ({
    value: (input as tf.Tensor).clone(),
    gradFunc: (dy: tf.Tensor) => {
      whenRead([], announce);
      return dy;
    },
  }));
  return marked(x) as T;
}
