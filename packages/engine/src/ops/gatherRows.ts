/**
 * Rows of a tensor by index, whose gradient is a choice of rows too, added in a fixed order. TensorFlow.js's own gradient
 * adds rows in the order that a GPU happens to take, and not every backend has a kernel for it.
 * Shapes: N rows with C channels, each taken K times or not at all, M rows of the result.
 */

import * as tf from '@tensorflow/tfjs';

/**
 * @param rows [M]: the row of `x` that each row of the result is; N for `filler`
 * @param places [N·K]: the rows of the result that are row n of `x`, the inverse of `rows`; M where there is none
 * @param filler [C]: a constant row, zeros when left out
 * @returns [M, C]
 */
export function gatherRows(
  x_NC: tf.Tensor2D,
  rows: Int32Array,
  places: Int32Array,
  filler?: Float32Array,
): tf.Tensor2D {
  const [count, width] = x_NC.shape;
  const times = places.length / count;
  const gather = tf.customGrad((x) => ({
    value: tf.tidy(() => choose(x as tf.Tensor2D, rows, filler)),
    gradFunc: (dy: tf.Tensor) => {
      const dys_MC = choose(dy as tf.Tensor2D, places);
      return times === 1 ? dys_MC : tf.sum(tf.reshape(dys_MC, [count, times, width]), 1);
    },
  }));
  return gather(x_NC) as tf.Tensor2D;
}

/** The rows of `x`, and the filler for those that it does not have. */
function choose(x: tf.Tensor2D, rows: Int32Array, filler?: Float32Array): tf.Tensor2D {
  const [count, width] = x.shape;
  const isWhole = !rows.includes(count);
  const choices = isWhole
    ? x
    : tf.concat2d([x, filler ? tf.tensor2d(filler, [1, width]) : (tf.fill([1, width], 0) as tf.Tensor2D)], 0);
  return tf.gather(choices, tf.tensor1d(rows, 'int32'));
}
