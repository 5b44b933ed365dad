/** Workers of a run must compute with one arithmetic: on GPUs of two kinds the bits would depend on who computes what. */

import { SluiceError } from '@sluice/core';
import type { InitializeResult } from '@sluice/train';

/** @throws SLUICE_E_HOST_DIFFERS, naming the first of all workers and the first that differs from it */
export function demandOneArithmetic(
  started: readonly Pick<InitializeResult, 'arithmetic'>[],
  placeOf: (rank: number) => { readonly name: string; readonly host: string },
): void {
  const names = started.map(({ arithmetic }) => arithmetic);
  const other = names.findIndex((name) => name !== names[0]);
  if (other < 0) return;
  const says = (rank: number) => `${placeOf(rank).name} on ${placeOf(rank).host} with ${names[rank]}`;
  throw new SluiceError(
    'SLUICE_E_HOST_DIFFERS',
    `Workers compute with different arithmetic: ${says(0)}, ${says(other)}.`,
    { details: { arithmetic: names } },
  );
}
