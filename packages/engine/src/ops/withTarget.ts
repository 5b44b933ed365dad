/** Gradients of parameters that an operation may do without. */

import type { GradientTarget, Parameter } from '../parameter.ts';

/** Lets `write` put a contribution where the parameter's gradient belongs; null where there is no parameter. */
export function withTarget(norm: Parameter | null, write: (target: GradientTarget | null) => void): void {
  if (norm) norm.contribute(write);
  else write(null);
}
