/**
 * What may change when a run is resumed. A key is free when no bit of the result depends on it, needs `--allow` when
 * it alters what the rest of the run does, and is fixed when the weights or the order of the data depend on it.
 */

import { isDeepStrictEqual } from 'node:util';
import { allKeyPaths, nearest, SluiceError } from '@sluice/core';
import { type DataConfig, firstDifference, mixturePhases } from '@sluice/data';
import { RunConfig } from '@sluice/train';
import type { JournalEntry } from './journal.ts';
import { meantDifferences } from './spelledOut.ts';

export type ResumeRule = 'free' | 'allow' | 'fixed';

/** The longest matching prefix decides; a key that none matches is fixed. */
export const RESUME_RULES: Readonly<Record<string, ResumeRule>> = {
  name: 'free',
  seed: 'fixed',
  // Another backend sums in another order, and so gives other bits, as another precision does.
  backend: 'allow',
  precision: 'allow',
  model: 'fixed',
  initialize: 'fixed',
  data: 'fixed',
  // The corpus may have moved. Its content is compared with the saved hash in any case.
  'data.recipe': 'allow',
  'data.mixture.recipes': 'allow',
  // What is later in the run may be mixed otherwise.
  'data.mixture.schedule': 'allow',
  'parallel.workers': 'free',
  'parallel.expertParallel': 'free',
  'parallel.threads': 'free',
  'parallel.lanes': 'fixed',
  'parallel.gradients': 'allow',
  'parallel.gradientMiB': 'free',
  'parallel.synchronize': 'fixed',
  batch: 'fixed',
  // The learning rate's schedule spans the whole run.
  'training.steps': 'allow',
  optimizer: 'allow',
  // What one kind has kept of past gradients is not what another needs.
  'optimizer.kind': 'fixed',
  schedule: 'allow',
  evaluation: 'free',
  checkpoint: 'free',
  diagnostics: 'free',
  faults: 'free',
  hosts: 'free',
  observe: 'free',
  spikes: 'allow',
};

/** A change that was accepted. */
export interface JudgedChange {
  /** Path of the key, e.g. `optimizer.learningRate`. */
  readonly key: string;
  readonly saved: unknown;
  readonly now: unknown;
  /** Whether `--allow` was needed, and given. */
  readonly allowed: boolean;
}

export function resumeRule(key: string): ResumeRule {
  for (let prefix = key; prefix !== ''; prefix = prefix.slice(0, Math.max(0, prefix.lastIndexOf('.')))) {
    const rule = RESUME_RULES[prefix];
    if (rule) return rule;
  }
  return 'fixed';
}

/**
 * Refuses keys of `--allow` that allow nothing: a mistyped one would be missed only when the change is refused, or never.
 * @throws SLUICE_E_RESUME_ALLOW_INVALID
 */
export function refuseVainAllow(allow: readonly string[]): void {
  const known = allKeyPaths(RunConfig);
  const faults = allow.flatMap((key) => {
    const reason = whyInVain(key, known);
    return reason === undefined ? [] : [{ key, reason }];
  });
  if (faults.length === 0) return;
  const allowable = Object.keys(RESUME_RULES).filter((key) => RESUME_RULES[key] === 'allow');
  throw new SluiceError(
    'SLUICE_E_RESUME_ALLOW_INVALID',
    [
      ...faults.map(({ key, reason }) => `--allow ${key}: ${reason}.`),
      `What may be allowed, alone or by a key within it: ${allowable.join(', ')}.`,
    ].join('\n'),
    { details: { faults, allowable } },
  );
}

/** @param known every key and section of a run's configuration */
function whyInVain(key: string, known: readonly string[]): string | undefined {
  const rulesWithin = (path: string) =>
    known.filter((one) => one === path || one.startsWith(`${path}.`)).map(resumeRule);
  if (!known.includes(key)) {
    const allowable = known.filter((path) => rulesWithin(path).includes('allow'));
    const lastWord = key.slice(key.lastIndexOf('.') + 1);
    const meant = nearest(key, allowable) ?? allowable.find((path) => path.endsWith(`.${lastWord}`));
    return `the configuration has no such key${meant === undefined ? '' : ` (did you mean ${meant}?)`}`;
  }
  const rules = rulesWithin(key);
  if (rules.includes('allow')) return undefined;
  return rules.includes('free') ? 'nothing in it needs to be allowed' : 'a resumed run cannot change it';
}

/**
 * Judges how a resumed run's configuration differs from the saved one; what is said in other words is no difference.
 * @param allow keys named by `--allow`; a section's name allows all its keys
 * @throws SLUICE_E_RESUME_KEY_FIXED, SLUICE_E_RESUME_NEEDS_ALLOW, with each key, its saved and its new value
 */
export function judgeChanges(saved: RunConfig, now: RunConfig, allow: readonly string[]): JudgedChange[] {
  const changes = meantDifferences(saved, now).map(({ key, before, after }) => ({
    key,
    saved: before,
    now: after,
  }));
  const fixed = changes.filter((change) => resumeRule(change.key) === 'fixed');
  if (fixed.length > 0) {
    throw new SluiceError('SLUICE_E_RESUME_KEY_FIXED', `A resumed run cannot change ${listChanges(fixed)}.`, {
      details: { changes: fixed },
    });
  }
  const needing = changes.filter(
    (change) => resumeRule(change.key) === 'allow' && !isAllowed(change.key, allow),
  );
  if (needing.length > 0) {
    const flags = needing.map((change) => `--allow ${change.key}`).join(' ');
    throw new SluiceError(
      'SLUICE_E_RESUME_NEEDS_ALLOW',
      `Changing ${listChanges(needing)} makes this another run from here on; confirm it by ${flags}.`,
      { details: { changes: needing } },
    );
  }
  return changes.map((change) => ({ ...change, allowed: resumeRule(change.key) === 'allow' }));
}

/**
 * Refuses to mix otherwise what has been read already: texts would be read twice or left out. Weights that come later change nothing
 * before (`MixtureOrder`), so nothing else is to be refused.
 * @param nextSample of the order of the data, the first that has not been read
 * @throws SLUICE_E_MIXTURE_PAST
 */
export function refuseChangedPast(saved: DataConfig, now: DataConfig, nextSample: number): void {
  if (!saved.mixture || !now.mixture) return;
  const first = firstDifference(mixturePhases(saved), mixturePhases(now));
  if (first >= nextSample) return;
  const tokens = nextSample * saved.sequenceLength;
  throw new SluiceError(
    'SLUICE_E_MIXTURE_PAST',
    `The run has read ${tokens} tokens of the data, and data.mixture.schedule would mix them otherwise from token ${first * saved.sequenceLength} on. Leave what it says of these as it was (${JSON.stringify(saved.mixture.schedule)}), and let new weights begin with fromTokens ${tokens} or more.`,
    { details: { tokens, from: first * saved.sequenceLength, saved: saved.mixture.schedule } },
  );
}

function isAllowed(key: string, allow: readonly string[]): boolean {
  return allow.some((allowed) => key === allowed || key.startsWith(`${allowed}.`));
}

function listChanges(changes: readonly Omit<JudgedChange, 'allowed'>[]): string {
  return changes
    .map(({ key, saved, now }) => `${key} (saved ${showValue(saved)}, now ${showValue(now)})`)
    .join(', ');
}

function showValue(value: unknown): string {
  return value === undefined ? 'unset' : JSON.stringify(value);
}

/**
 * Keys whose change an earlier `resume` was allowed, and that still have the value given then. The run may have been
 * killed before a checkpoint with the new value was written.
 */
export function keysAllowedBefore(journal: readonly JournalEntry[], now: unknown): string[] {
  const allowed = journal
    .filter((entry) => entry.kind === 'resume')
    .flatMap((entry) => entry.changes)
    .filter((change) => change.allowed && isDeepStrictEqual(valueAt(now, change.key), change.now));
  return allowed.map((change) => change.key);
}

function valueAt(config: unknown, key: string): unknown {
  return key
    .split('.')
    .reduce<unknown>((value, name) => (value as Record<string, unknown> | undefined)?.[name], config);
}
