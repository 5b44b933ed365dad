/** The decisions to go back that a run rests on, as its journal has them. */

import { type Rollback, withRollback } from '@sluice/train';
import type { JournalEntry } from './journal.ts';

export type RollbackEntry = Extract<JournalEntry, { kind: 'rollback' }>;

/** One time that a run went back, and what the steps that it gave up rested on. */
export interface GivenUpSteps {
  readonly entry: RollbackEntry;
  /** Decisions before it, oldest first. */
  readonly earlier: readonly Rollback[];
}

interface Decisions {
  readonly rollbacks: readonly Rollback[];
  readonly givenUp: readonly GivenUpSteps[];
}

const NONE: Decisions = { rollbacks: [], givenUp: [] };

/**
 * Oldest first. A run that goes on from a checkpoint rests on what was decided after it was saved as well, since it would come
 * to the same decisions again; unless its configuration was changed: then the future that they were made in is given up.
 * @param journal oldest entry first
 */
export function rollbacksOf(journal: readonly JournalEntry[]): Rollback[] {
  return [...decisionsOf(journal).rollbacks];
}

/** Each time that the run went back to where it is now, oldest first; of other futures there is nothing. */
export function givenUpSteps(journal: readonly JournalEntry[]): readonly GivenUpSteps[] {
  return decisionsOf(journal).givenUp;
}

function decisionsOf(journal: readonly JournalEntry[]): Decisions {
  /** What the state of each checkpoint rests on. */
  const saved = new Map<number, Decisions>();
  let decisions = NONE;
  for (const entry of journal) {
    if (entry.kind === 'rollback') {
      const { rollbacks, givenUp } = decisions;
      decisions = {
        rollbacks: withRollback(rollbacks, entry.decision),
        givenUp: [...givenUp, { entry, earlier: rollbacks }],
      };
    } else if (entry.kind === 'save') saved.set(entry.step, decisions);
    else if (entry.kind === 'resume') {
      const isOther = entry.changes.some(({ allowed }) => allowed);
      if (entry.checkpoint === undefined && !entry.fromMemory) decisions = NONE;
      else if (isOther) decisions = saved.get(entry.step) ?? NONE;
    } else if (entry.kind === 'restart' && entry.checkpoint === undefined && !entry.fromMemory) {
      decisions = NONE;
    }
  }
  return decisions;
}
