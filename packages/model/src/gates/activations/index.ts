/** All activations of gates. A new one is a file beside this one and a line here. */

import type { GateActivation } from './activation.ts';
import { doubleSigmoid } from './doubleSigmoid.ts';
import { identity } from './identity.ts';
import { nsSigmoid } from './nsSigmoid.ts';
import { sigmoid } from './sigmoid.ts';
import { silu } from './silu.ts';
import { softplus } from './softplus.ts';

export const GATE_ACTIVATIONS = [sigmoid, doubleSigmoid, nsSigmoid, silu, softplus, identity] as const;

export type GateActivationName = (typeof GATE_ACTIVATIONS)[number]['name'];

export const GATE_ACTIVATION_NAMES = GATE_ACTIVATIONS.map(({ name }) => name) as [
  GateActivationName,
  ...GateActivationName[],
];

export function gateActivation(name: GateActivationName): GateActivation {
  return GATE_ACTIVATIONS.find((activation) => activation.name === name)!;
}
