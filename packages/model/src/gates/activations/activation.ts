/** What turns a gate's logits into its scores. */

import type * as tf from '@tensorflow/tfjs';

export interface GateActivation<Name extends string = string> {
  readonly name: Name;
  /** The formula and the range, for the configuration's help. */
  readonly describe: string;
  /**
   * Tensors of the logits' size that a backward pass keeps, the scores included: each operation keeps what it multiplies,
   * adds or reshapes. Predicts memory.
   */
  readonly keptTensors: number;
  /** In plain `tf.*` operations, element by element. */
  readonly apply: (logits: tf.Tensor) => tf.Tensor;
}
