/** A soft cap (Gemma 2, arXiv 2408.00118 §2): close to x where that is small, and never beyond ±cap. */

import * as tf from '@tensorflow/tfjs';

/** cap · tanh(x / cap); x where there is no cap. */
export function softcap<T extends tf.Tensor>(x: T, cap: number | undefined): T {
  return cap === undefined ? x : tf.mul(tf.tanh(tf.div(x, cap)), cap);
}
