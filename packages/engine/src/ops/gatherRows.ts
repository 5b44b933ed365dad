/**
 * Rows of a tensor by index, whose gradient is a choice of rows too, added in a fixed order. TensorFlow.js's own gradient
 * adds rows in the order that a GPU happens to take, and not every backend has a kernel for it.
 * Shapes: N rows with C channels, each taken K times, M = N·K.
 */

import * as tf from '@tensorflow/tfjs';

/**
 * @param rows [M]: the row of `x` that each row of the result is
 * @param places [N·K]: the rows of the result that are row n of `x`, the inverse of `rows`
 * @returns [M, C]
 */
export function gatherRows(x_NC: tf.Tensor2D, rows: Int32Array, places: Int32Array): tf.Tensor2D {
  const [count, width] = x_NC.shape;
  const times = places.length / count;
  const gather = tf.customGrad((x) => ({
    value: tf.tidy(() => tf.gather(x as tf.Tensor2D, tf.tensor1d(rows, 'int32'))),
    gradFunc: (dy: tf.Tensor) => {
      const dys_MC = tf.gather(dy, tf.tensor1d(places, 'int32'));
      return times === 1 ? dys_MC : tf.sum(tf.reshape(dys_MC, [count, times, width]), 1);
    },
  }));
  return gather(x_NC) as tf.Tensor2D;
}
