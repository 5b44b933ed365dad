/** The decisions to go back that a run rests on, as its journal has them. */

import { type Rollback, withRollback } from '@sluice/train';
import type { JournalEntry } from './journal.ts';

/**
 * Oldest first. A run that goes on from a checkpoint rests on what was decided after it was saved as well, since it would come
 * to the same decisions again; unless its configuration was changed: then the future that they were made in is given up.
 * @param journal oldest entry first
 */
export function rollbacksOf(journal: readonly JournalEntry[]): Rollback[] {
  /** What the state of each checkpoint rests on. */
  const saved = new Map<number, Rollback[]>();
  let rollbacks: Rollback[] = [];
  for (const entry of journal) {
    if (entry.kind === 'rollback') rollbacks = withRollback(rollbacks, entry.decision);
    else if (entry.kind === 'save') saved.set(entry.step, rollbacks);
    else if (entry.kind === 'resume') {
      const isOther = entry.changes.some(({ allowed }) => allowed);
      if (entry.checkpoint === undefined) rollbacks = [];
      else if (isOther) rollbacks = saved.get(entry.step) ?? [];
    } else if (entry.kind === 'restart' && entry.checkpoint === undefined && !entry.fromMemory) {
      rollbacks = [];
    }
  }
  return rollbacks;
}
