/** What kernels read of a parameter: its values in single precision, or in that of activations, as which a run may keep them alone. */

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

/** A parameter's values as they are kept, or its gradient's. */
export function keptOf({ values }: Pick<Parameter, 'values'>): Activations {
  invariant(values instanceof DeviceArray, 'a kernel of a device takes parameters that lie there');
  return values as Activations;
}

/** The same of what is kept in single precision. */
export function masterOf(of: Pick<Parameter, 'values'>): DeviceArray<'f32'> {
  const kept = keptOf(of);
  invariant(kept.storage === 'f32', 'what is read in single precision of a parameter is kept so');
  return kept as DeviceArray<'f32'>;
}

/**
 * What products and embeddings read: these, or where activations are bf16 and they are not the same in bf16, rounded once more where they
 * have changed since it was asked for last.
 */
export function weightsOf(parameter: Parameter): Activations {
  // Values that are still on their way come first.
  const kept = keptOf(parameter);
  if (kept.storage === cudaBackend().precision) return kept;
  const master = masterOf(parameter);
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
