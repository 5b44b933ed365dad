import type { GateActivation } from './activation.ts';

/** Row 7 of the paper's Table 3: what is left of an additive gate without its non-linearity. */
export const identity: GateActivation<'identity'> = {
  name: 'identity',
  describe: 'x',
  keptTensors: 1,
  apply: (logits) => logits.clone(),
};
