/** The configuration that a step of a run was taken with: what was changed since then is in the journal. */

import { parseConfig } from '@sluice/core';
import { RunConfig } from '@sluice/train';
import type { JournalEntry } from './journal.ts';

/** Where the corpora lie. Their content is the run's, and it is now that they are read. */
const PLACES = ['data.recipe', 'data.mixture.recipes'];

/**
 * Takes back what the run was allowed to change after a step. What changes no bit stays as it is now.
 * @param now the configuration that the run has now
 * @param journal oldest entry first
 * @throws SLUICE_E_CONFIG_INVALID for a journal that does not belong to the configuration
 */
export function configThen(now: RunConfig, journal: readonly JournalEntry[], step: number): RunConfig {
  const undone: string[] = [];
  /** What was decided at a later step than this is of a future that was given up. */
  let newest = Number.POSITIVE_INFINITY;
  for (const entry of journal.toReversed()) {
    if (entry.kind !== 'resume' || entry.step >= newest) continue;
    if (entry.step < step) break;
    newest = entry.step;
    for (const { key, saved, allowed } of entry.changes)
      if (allowed && !PLACES.includes(key)) undone.push(`${key}=${JSON.stringify(saved ?? null)}`);
  }
  return parseConfig(now, RunConfig, 'config.yaml', undone);
}
