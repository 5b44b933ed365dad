/** What the card does at most: measured once, in a process of its own, since its kernels may go wrong as others may. */

import type { Ceilings } from '@sluice/engine/cuda';
import { casesOf } from './cases.ts';
import type { KitContext } from './step.ts';

/** @returns undefined where it cannot be measured, or was tried in vain before; `failures` get the reasons */
export async function ceilingsOf(
  context: KitContext,
  failures: string[] = [],
): Promise<Ceilings | undefined> {
  const { probe } = context.earlier;
  if (probe) return probe.ceilings as Ceilings | undefined;
  return measuredCeilings(context, failures);
}

/** By the card's own instruction, or, where that fails, by the one that all cards have. */
export async function measuredCeilings(
  context: KitContext,
  failures: string[] = [],
): Promise<Ceilings | undefined> {
  for await (const { name, result, failure } of casesOf<undefined, Ceilings>('probe', context)) {
    if (result) return result;
    failures.push(`what the card does at most by ${name}: ${failure}`);
  }
  return undefined;
}
