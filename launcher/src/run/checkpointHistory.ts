/** What the journal knows of a run's checkpoints: which there were, and which are not to be gone on from. */

import type { JournalEntry } from './journal.ts';

export interface CheckpointHistory {
  /** Steps whose checkpoints were completed and that the run still rests on, though they may be gone since. */
  readonly committed: ReadonlySet<number>;
  /** Steps whose checkpoints are refused, whatever they hold, with the reason. */
  readonly distrust: ReadonlyMap<number, string>;
}

/**
 * A checkpoint is distrusted when all steps that were tried with its weights gave no finite update, when it is of a spike that
 * the run stopped for, or when the run went on from an earlier state after it: then it is of a future that was given up,
 * perhaps of another configuration. Saving a checkpoint of the same step again makes it good.
 * @param journal oldest entry first
 */
export function checkpointHistory(journal: readonly JournalEntry[]): CheckpointHistory {
  const committed = new Set<number>();
  const distrust = new Map<number, string>();
  for (const entry of journal) {
    if (entry.kind === 'commit') {
      committed.add(entry.step);
      distrust.delete(entry.step);
    } else if (entry.kind === 'stop' && entry.firstStep !== undefined) {
      const what = entry.reason === 'spike' ? 'a spike' : 'no finite update';
      const reason = `its weights gave ${what} in steps ${entry.firstStep} to ${entry.step}`;
      for (const step of committed) if (step >= entry.firstStep - 1) distrust.set(step, reason);
    } else if (entry.kind === 'rollback') {
      const reason = `the run went back to step ${entry.decision.to} after it`;
      for (const step of committed) {
        if (step <= entry.decision.to) continue;
        committed.delete(step);
        distrust.set(step, reason);
      }
    } else if (entry.kind === 'resume' || entry.kind === 'restart') {
      const isFromStart = entry.checkpoint === undefined && !entry.fromMemory;
      const from = isFromStart ? undefined : entry.step;
      const reason =
        from === undefined ? 'the run began anew after it' : `the run went on from step ${from} after it`;
      if (from !== undefined && !entry.fromMemory) {
        // It was sound, though the note of its commit may be lost.
        committed.add(from);
        distrust.delete(from);
      }
      for (const step of committed) {
        if (from !== undefined && step <= from) continue;
        committed.delete(step);
        distrust.set(step, distrust.get(step) ?? reason);
      }
    }
  }
  return { committed, distrust };
}
