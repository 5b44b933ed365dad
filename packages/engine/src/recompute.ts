/**
 * Recomputation (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016) for the reference operations: the tape
 * keeps an operation's inputs alone, and the backward pass computes what lies between once more, for one operation at a
 * time. Native kernels need none of this, since they know what to keep.
 */

import * as tf from '@tensorflow/tfjs';
import { gradientsAt } from './gradients.ts';
import { isRecording } from './tape.ts';

/**
 * Runs `compute`, which may use parameters by `Parameter.onTape`, and whose values must depend on nothing else that changes
 * until the backward pass. It runs once more then.
 */
export function recomputed<T extends tf.Tensor>(
  inputs: readonly tf.Tensor[],
  compute: (...inputs: tf.Tensor[]) => T,
): T {
  if (!isRecording()) return tf.tidy(() => compute(...inputs));
  const operation = tf.customGrad((...args) => {
    const save = args.pop() as unknown as tf.GradSaveFunc;
    const tensors = args as tf.Tensor[];
    save(tensors);
    return {
      value: tf.tidy(() => compute(...tensors)),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => gradientsAt(saved, compute, dy),
    };
  });
  return operation(...inputs) as T;
}
