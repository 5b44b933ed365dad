/** Gains of norms that are stored around zero: the norm multiplies by 1 + w (Qwen3-Next). */

import { flatMemory } from './flatMemory.ts';
import { Parameter } from './parameter.ts';

const gains = new WeakMap<Parameter, Parameter>();

/**
 * A parameter with the values 1 + w. Its gradient is that of w, and goes where that goes.
 * @param weight w, of any shape; its values may change between calls, and count as they are at the last one
 */
export function zeroCentred(weight: Parameter): Parameter {
  const known = gains.get(weight);
  const gain = known ?? Parameter.filled(weight.name, weight.shape, 0);
  gains.set(weight, gain);
  const values = weight.hostValues;
  const ones = gain.hostValues;
  let isChanged = known === undefined;
  for (let i = 0; i < values.length; i++) {
    const one = Math.fround(1 + values[i]!);
    if (ones[i] !== one) {
      ones[i] = one;
      isChanged = true;
    }
  }
  if (isChanged) {
    flatMemory().write(gain.values, ones);
    gain.refresh();
  }
  gain.sink = weight.sink;
  return gain;
}
