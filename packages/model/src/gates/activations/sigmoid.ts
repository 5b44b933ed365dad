import * as tf from '@tensorflow/tfjs';
import type { GateActivation } from './activation.ts';

/** The paper's default (eq. 5). */
export const sigmoid: GateActivation<'sigmoid'> = {
  name: 'sigmoid',
  describe: '1/(1 + e^−x), in (0, 1)',
  keptTensors: 1,
  apply: (logits) => tf.sigmoid(logits),
};
