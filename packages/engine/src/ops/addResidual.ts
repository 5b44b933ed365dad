/** The sum of a residual stream and what a layer adds to it. */

import * as tf from '@tensorflow/tfjs';
import { hasFused, registerFused, runFused } from '../fused.ts';
import { callNative } from '../native.ts';

const KERNEL = 'SluiceAddResidual';

/**
 * x + y for equal shapes. `y` is consumed: the sum may take its memory, so dispose it, but do not read it afterwards.
 */
export function addResidual<T extends tf.Tensor>(x: T, y: T): T {
  if (!hasFused(KERNEL)) return addResidualReference(x, y);
  return runFused(KERNEL, { x, y }, {});
}

export function addResidualReference<T extends tf.Tensor>(x: T, y: T): T {
  return tf.add(x, y);
}

registerFused<object>({
  name: KERNEL,
  inputsToSave: [],
  forward({ floats, output, outputOver, shape }) {
    const [x, y] = [floats('x'), floats('y')];
    const sum = x === y ? output(shape('x')) : outputOver('y');
    callNative('add', x, y, sum.values, sum.values.length);
    return sum.info;
  },
  backward({ share }, [dy]) {
    return { x: share(dy!), y: share(dy!) };
  },
});
