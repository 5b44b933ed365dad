/** What products and embeddings read of a parameter: its values in the precision of activations, beside the master weights. */

import { invariant } from '@sluice/core';
import type { Parameter } from '../parameter.ts';
import { cudaBackend } from './backend.ts';
import { type Activations, DeviceArray } from './device.ts';
import { narrow } from './flatArithmetic.ts';

interface Weights {
  readonly array: DeviceArray<'bf16'>;
  version: number;
}

const copies = new WeakMap<Parameter, Weights>();

/** A parameter's values where they lie, as its gradients do: in single precision on a device. */
export function masterOf({ values }: Pick<Parameter, 'values'>): DeviceArray<'f32'> {
  invariant(values instanceof DeviceArray, 'a kernel of a device takes parameters that lie there');
  return values as DeviceArray<'f32'>;
}

/** What products read: these, or where activations are bf16 the same in bf16, rounded once more where they have changed since it was asked for last. */
export function weightsOf(parameter: Parameter): Activations {
  // Values that are still on their way come first.
  const master = masterOf(parameter);
  if (cudaBackend().precision === 'f32') return master;
  const { version } = parameter;
  const known = copies.get(parameter);
  const weights = known ?? { array: master.device.allocate(master.length, 'bf16'), version };
  if (!known) parameter.whenReleased(() => master.device.free(weights.array));
  if (!known || known.version !== version) {
    narrow(weights.array, master);
    weights.version = version;
    copies.set(parameter, weights);
  }
  return weights.array;
}
