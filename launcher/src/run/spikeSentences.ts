/** A spike, and a decision to go back, each as a sentence. */

import { groupDigits } from '@sluice/observe';
import type { Rollback, SpikeEvent } from '@sluice/train';
import { describeFirstMove, signalText, spanText } from './episodeText.ts';

/** What stood out, over what, what moved first, and whether the update was left out. */
export function spikeSentence(
  { step, signal, value, median, first }: SpikeEvent,
  isSkipped: boolean,
): string {
  // The journal has null for what was not finite.
  const number = (x: number | null) => (x !== null && Number.isFinite(x) ? x.toPrecision(4) : 'not finite');
  const isItself = first === undefined || (first.step === step && first.signal === signal);
  const began = isItself ? '' : `; it began with ${describeFirstMove(first, step)}`;
  const left = isSkipped ? 'The update was left out.' : 'It was only told.';
  return `Spike: ${signalText(signal)} ${number(value)} over a median of ${number(median)}${began}. ${left}`;
}

/** From where to where, why, what is left out for good, and what becomes of the rate. */
export function rollbackSentence(
  { root, to, level, rateFactor, rateUntil }: Rollback,
  [first, end]: readonly [number, number],
): string {
  const again = level > 1 ? ` (${level} in a row)` : '';
  const rate =
    rateUntil > to
      ? ` The learning rate is ${rateFactor} of the scheduled one to step ${groupDigits(rateUntil)}.`
      : '';
  return `Went back to step ${groupDigits(to)}${again}, as a spike began at step ${groupDigits(root)}. ${groupDigits(end - first)} samples are left out for good: ${spanText(first, end - 1)}.${rate}`;
}
