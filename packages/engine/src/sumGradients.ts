/**
 * The gradients of sums and means. TensorFlow.js's own multiply by a tensor of ones that the host makes, as large as the operand, which a
 * device would be sent in every pass. Here the backend fills it, and `cuda` has no memory for it; the bits are the same.
 */

import * as tf from '@tensorflow/tfjs';

/** dy, once for each element that was added to it. */
function spread(dy: tf.Tensor, { shape }: tf.Tensor, attributes: tf.NamedAttrMap): tf.Tensor {
  const axes = tf.util.parseAxisParam(attributes.axis as number | number[], shape);
  const kept = shape.map((size, i) => (axes.includes(i) ? 1 : size));
  return tf.mul(tf.reshape(dy, kept), tf.fill(shape, 1));
}

tf.registerGradient({
  kernelName: tf.Sum,
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attributes) => ({ x: () => spread(dy as tf.Tensor, x!, attributes) }),
});

tf.registerGradient({
  kernelName: tf.Mean,
  inputsToSave: ['x'],
  gradFunc(dy, [x], attributes) {
    const mean = dy as tf.Tensor;
    return { x: () => tf.div(spread(mean, x!, attributes), x!.size / mean.size) };
  },
});
