import * as tf from '@tensorflow/tfjs';
import type { GateActivation } from './activation.ts';

/** Laguna's (arXiv 2605.27605): unbounded, and never quite closed. */
export const softplus: GateActivation<'softplus'> = {
  name: 'softplus',
  describe: 'ln(1 + e^x), unbounded above',
  keptTensors: 2,
  apply: (logits) => tf.softplus(logits),
};
