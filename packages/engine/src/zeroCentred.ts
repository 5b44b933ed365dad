/** Gains of norms that are stored around zero: the norm multiplies by 1 + w (Qwen3-Next). */

import { Parameter } from './parameter.ts';

const gains = new WeakMap<Parameter, Parameter>();

/**
 * A parameter with the values 1 + w. Its gradient is that of w, and goes where that goes.
 * @param weight w, of any shape; its values may change between calls, and count as they are at the last one
 */
export function zeroCentred(weight: Parameter): Parameter {
  const known = gains.get(weight);
  const gain = known ?? new Parameter(weight.name, weight.shape, new Float32Array(weight.values.length));
  gains.set(weight, gain);
  const { values } = weight;
  let isChanged = known === undefined;
  for (let i = 0; i < values.length; i++) {
    const one = Math.fround(1 + values[i]!);
    if (gain.values[i] !== one) {
      gain.values[i] = one;
      isChanged = true;
    }
  }
  if (isChanged) gain.refresh();
  gain.sink = weight.sink;
  return gain;
}
