/** In which precision a backend has activations, and weights in products. Master weights, gradients and moments are in single precision. */

import { SluiceError } from '@sluice/core';

export const PRECISIONS = ['bf16', 'f32'] as const;

export type Precision = (typeof PRECISIONS)[number];

/**
 * The precision that is asked for, or, where none is, the first that the backend has.
 * @throws SLUICE_E_BACKEND_UNSUPPORTED where it has others only
 */
export function precisionOn(
  { name, precisions }: { readonly name: string; readonly precisions: readonly [Precision, ...Precision[]] },
  wanted: Precision | undefined,
): Precision {
  if (wanted === undefined || precisions.includes(wanted)) return wanted ?? precisions[0];
  throw new SluiceError(
    'SLUICE_E_BACKEND_UNSUPPORTED',
    `precision is ${wanted}, but the backend "${name}" computes in ${precisions.join(' and ')} only. Leave it out, or take another backend.`,
    { details: { backend: name, precision: wanted } },
  );
}
