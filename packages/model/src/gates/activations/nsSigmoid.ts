import * as tf from '@tensorflow/tfjs';
import type { GateActivation } from './activation.ts';

/** The paper's non-sparse sigmoid (eq. 9): a gate that can at most halve. */
export const nsSigmoid: GateActivation<'ns-sigmoid'> = {
  name: 'ns-sigmoid',
  describe: '½ + ½·sigmoid(x), in (½, 1)',
  keptTensors: 3,
  apply: (logits) => tf.add(tf.mul(tf.sigmoid(logits), 0.5), 0.5),
};
