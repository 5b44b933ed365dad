/** Which numbers of a row are its largest. Shapes: N rows, E columns. */

import * as tf from '@tensorflow/tfjs';
import { withoutGradient } from '../tape.ts';

/** @returns [N, E]: 1 where one of the `k` largest of its row is, of equal ones the first, and 0 elsewhere: a constant */
export function largestOfRow(x_NE: tf.Tensor2D, k: number): tf.Tensor2D {
  return withoutGradient(() => {
    const columns = x_NE.shape[1];
    if (k === columns) return tf.fill(x_NE.shape, 1);
    return tf.sum(tf.oneHot(tf.topk(x_NE, k).indices, columns, 1, 0, 'float32'), 1);
  });
}
