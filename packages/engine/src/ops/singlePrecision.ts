/** What is to be computed in single precision by plain operations, where activations have less. */

import type * as tf from '@tensorflow/tfjs';
import { computation } from '../computation.ts';
import { fusedOperation, hasFused, runFused } from '../fused.ts';

/** Whose gradient goes back in the precision of activations. */
export const SINGLE_PRECISION = fusedOperation<object>({ name: 'SluiceSinglePrecision', inputsToSave: [] });

/** `x` in single precision: what plain operations make of it is so, too. */
export function inSinglePrecision<T extends tf.Tensor>(x: T): T {
  if (computation().precision === 'f32' || !hasFused(SINGLE_PRECISION)) return x;
  return runFused(SINGLE_PRECISION, { x }, {});
}
