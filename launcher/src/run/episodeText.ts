/** Spikes in words, for the terminal and the report. */

import { formatNumber, groupDigits } from '@sluice/observe';
import type { FirstMove, SignalName } from '@sluice/train';

/** `1,204` or `1,204–1,210`. */
export function spanText(first: number, last: number): string {
  return first === last ? groupDigits(first) : `${groupDigits(first)}–${groupDigits(last)}`;
}

/**
 * What a spike began with: `gradient norm of router ×5.00`, and the step where it is not the spike's own first.
 * @param start first step of the spike
 */
export function describeFirstMove(first: FirstMove | undefined, start: number): string {
  if (!first) return '';
  const ratio = first.ratio === null ? 'not finite' : `×${formatNumber(first.ratio)}`;
  const at = first.step === start ? '' : ` at step ${groupDigits(first.step)}`;
  return `${signalText(first.signal)} ${ratio}${at}`;
}

/** `loss`, `gradient norm`, `gradient norm of router`, `update of router relative to weights and rate`. */
export function signalText(signal: SignalName): string {
  if (signal === 'loss') return 'loss';
  const [kind, group] = signal.split('.');
  if (kind === 'measured') return MEASURED[group!] ?? group!;
  const of = group === undefined ? '' : ` of ${GROUPS[group] ?? group}`;
  return kind === 'update' ? `update${of} relative to weights and rate` : `gradient norm${of}`;
}

/** What is measured every so many steps, as people call it. */
const MEASURED: Readonly<Record<string, string>> = {
  // In the journals of older versions.
  update: 'update relative to weights and rate',
  attentionLogit: 'largest attention logit',
  activation: 'largest activation',
  routerPreference: 'preference of the router',
  deadExperts: 'dead experts',
};

/** Groups of parameters as people call them, where that is not their key. */
const GROUPS: Readonly<Record<string, string>> = { feedForward: 'feed-forward', gate: 'gates' };
