/**
 * What follows when a step that was computed again comes out with other bits: a machine computes wrongly. Where two of three
 * passes agree, the run goes on with what they agree on, and who computed something else is named.
 */

import { SluiceError } from '@sluice/core';
import type { RecheckResult, StepResult } from '@sluice/train';
import type { Fleet } from '../fleet/fleet.ts';
import { finiteOrName } from '../run/finiteOrName.ts';
import type { Journal } from '../run/journal.ts';

/** How often a host may be named before nothing is computed on it any more. */
const TRUSTED_FAULTS = 1;

/** Who has been found to compute wrongly. It outlives the workers of one start. */
export class ArithmeticFaults {
  readonly #named = new Map<string, number>();

  /** @returns how often the host has been named, this time included */
  count(host: string): number {
    const count = (this.#named.get(host) ?? 0) + 1;
    this.#named.set(host, count);
    return count;
  }
}

export interface ArithmeticWatch {
  readonly journal: Pick<Journal, 'append'>;
  readonly placeOf: (rank: number) => { readonly host: string };
  readonly faults: ArithmeticFaults;
  readonly warn: (text: string) => void;
}

/**
 * Judges a step that may have been computed again.
 * @throws SLUICE_E_WRONG_ARITHMETIC where it cannot be told which numbers are right, or a host was named before
 */
export function judgeArithmetic(watch: ArithmeticWatch, result: StepResult): void {
  const { recheck, step } = result;
  if (!recheck || recheck.identical) return;
  const suspects = recheck.suspects.map((rank) => ({ rank, host: watch.placeOf(rank).host }));
  watch.journal.append('recheck', step, {
    suspects,
    first: inJson(recheck.first),
    now: inJson(result),
  });
  if (suspects.length === 0) throw untold(step);
  const names = suspects.map(({ rank, host }) => `rank ${rank} on ${host}`).join(', ');
  const said = `${names} computed something else than the others at step ${step} (${differenceText(recheck, result)})`;
  for (const host of new Set(suspects.map((suspect) => suspect.host))) {
    const isRepeated = watch.faults.count(host) > TRUSTED_FAULTS;
    if (recheck.isSound && !isRepeated) continue;
    const why = isRepeated ? 'not for the first time' : 'each time it was computed again';
    throw new SluiceError('SLUICE_E_WRONG_ARITHMETIC', `${said}, and ${why}: ${host} is not to be trusted.`, {
      details: { step, host, suspects },
    });
  }
  watch.warn(`${said}; the step was computed again, and goes on with what the others agree on`);
}

function untold(step: number): SluiceError {
  return new SluiceError(
    'SLUICE_E_WRONG_ARITHMETIC',
    `Step ${step} was computed three times, with other numbers each time: it cannot be told which machine is at fault.`,
    { details: { step } },
  );
}

/** Whether a fault is of a host that the run can do without from now on. */
export function canDoWithoutHost(fault: unknown, fleet: Fleet): boolean {
  if (!(fault instanceof SluiceError && fault.code === 'SLUICE_E_WRONG_ARITHMETIC')) return false;
  const { host } = fault.details;
  return typeof host === 'string' && fleet.distrust(host);
}

function inJson({ loss, gradientNorm }: RecheckResult['first']) {
  return { loss: finiteOrName(loss), gradientNorm: finiteOrName(gradientNorm) };
}

function differenceText({ first }: RecheckResult, now: StepResult): string {
  const isLoss = !Object.is(first.loss, now.loss);
  const [was, is] = isLoss ? [first.loss, now.loss] : [first.gradientNorm, now.gradientNorm];
  return `${isLoss ? 'loss' : 'gradient norm'} ${was} at first, ${is} then`;
}
