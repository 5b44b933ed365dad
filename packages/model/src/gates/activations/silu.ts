import * as tf from '@tensorflow/tfjs';
import type { GateActivation } from './activation.ts';

/** Rows 14 and 15 of the paper's Table 1. */
export const silu: GateActivation<'silu'> = {
  name: 'silu',
  describe: 'x·sigmoid(x), unbounded above',
  keptTensors: 3,
  apply: (logits) => tf.mul(logits, tf.sigmoid(logits)),
};
