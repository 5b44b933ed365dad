/** What the journal knows of checkpoints that could not be written. */

import type { JournalEntry } from './journal.ts';

export interface FailedSave {
  readonly step: number;
  readonly message: string;
}

/** Saves of the newest invocation that came to nothing, each step once. */
export function failedSaves(journal: readonly JournalEntry[]): FailedSave[] {
  const failed = new Map<number, FailedSave>();
  for (const entry of journal) {
    if (entry.kind === 'start' || entry.kind === 'resume') failed.clear();
    else if (entry.kind === 'commit') failed.delete(entry.step);
    else if (entry.kind === 'saveFailed') {
      failed.set(entry.step, { step: entry.step, message: entry.message });
    }
  }
  return [...failed.values()];
}

/** The failure of a run whose saves fail: none has come to its end since. */
export function failingSave(journal: readonly JournalEntry[]): FailedSave | undefined {
  const last = journal.findLast(({ kind }) => kind === 'saveFailed' || kind === 'commit');
  return last?.kind === 'saveFailed' ? { step: last.step, message: last.message } : undefined;
}
