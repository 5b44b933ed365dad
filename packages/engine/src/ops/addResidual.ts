/** The sum of a residual stream and what a layer adds to it. */

import * as tf from '@tensorflow/tfjs';
import { fusedOperation, hasFused, implementFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';

export const ADD_RESIDUAL = fusedOperation<object>({
  name: 'SluiceAddResidual',
  inputsToSave: [],
});

/**
 * x + y for equal shapes. `y` is consumed: the sum may take its memory, so dispose it, but do not read it afterwards.
 */
export function addResidual<T extends tf.Tensor>(x: T, y: T): T {
  if (!hasFused(ADD_RESIDUAL)) return addResidualReference(x, y);
  return runFused(ADD_RESIDUAL, { x, y }, {});
}

export function addResidualReference<T extends tf.Tensor>(x: T, y: T): T {
  return tf.add(x, y);
}

implementFused('native', ADD_RESIDUAL, {
  forward({ input, output, outputOver, shape }) {
    const [x, y] = [input('x'), input('y')];
    const sum = x === y ? output(shape('x')) : outputOver('y');
    callNative('add', x, y, sum.values, sum.values.length);
    return sum.info;
  },
  backward({ share }, [dy]) {
    return { x: share(dy!), y: share(dy!) };
  },
});
