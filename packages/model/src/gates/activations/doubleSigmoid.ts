import * as tf from '@tensorflow/tfjs';
import type { GateActivation } from './activation.ts';

/** A gate that leaves everything as it is where its logits are zero, to be added to a trained model (paper A.7). */
export const doubleSigmoid: GateActivation<'double-sigmoid'> = {
  name: 'double-sigmoid',
  describe: '2·sigmoid(x), in (0, 2), 1 at 0',
  keptTensors: 2,
  apply: (logits) => tf.mul(tf.sigmoid(logits), 2),
};
