import test from 'ava';
import { checkpointHistory } from '../../launcher/src/run/checkpointHistory.ts';
import type { JournalEntry } from '../../launcher/src/run/journal.ts';

/** Entries from `commit 4`, `resume 4`, `scratch`, `nonFinite 13 22`. */
function history(...events: string[]) {
  const journal = events.map((event) => {
    const [kind, ...numbers] = event.split(' ') as [string, ...string[]];
    const [first, last] = numbers.map(Number);
    if (kind === 'commit') return { kind, step: first, path: 'p', weights: 'w' };
    if (kind === 'resume') return { kind, step: first, checkpoint: 'p' };
    if (kind === 'scratch') return { kind: 'resume', step: 0 };
    return { kind: 'stop', reason: 'nonFinite', firstStep: first, step: last };
  });
  const { committed, distrust } = checkpointHistory(journal as unknown as JournalEntry[]);
  return { committed: [...committed], distrusted: [...distrust.keys()], reasons: [...distrust.values()] };
}

test('checkpoints that a run rests on are trusted', (t) => {
  t.like(history('commit 2', 'commit 4', 'resume 4', 'commit 6'), { committed: [2, 4, 6], distrusted: [] });
});

test('a checkpoint whose weights gave no finite step is not gone on from, the one before is', (t) => {
  const { committed, distrusted, reasons } = history('commit 10', 'commit 12', 'nonFinite 13 22');
  t.deepEqual(committed, [10, 12]);
  t.deepEqual(distrusted, [12]);
  t.regex(reasons.join(), /no finite update in steps 13 to 22/);
  t.deepEqual(history('commit 10', 'commit 11', 'nonFinite 13 22').distrusted, []);
  t.deepEqual(history('commit 10', 'commit 15', 'nonFinite 13 22').distrusted, [15]);
});

test('a checkpoint that was gone on from counts, though the note of its commit was lost', (t) => {
  t.like(history('commit 2', 'resume 4', 'nonFinite 5 14'), { committed: [2, 4], distrusted: [4] });
  t.like(history('resume 4', 'scratch'), { committed: [], distrusted: [4] });
});

test('checkpoints of a future that was given up are distrusted until that step is saved again', (t) => {
  t.deepEqual(history('commit 10', 'commit 12', 'resume 10').distrusted, [12]);
  t.deepEqual(history('commit 10', 'commit 12', 'resume 10', 'commit 12').distrusted, []);
  t.like(history('commit 10', 'commit 12', 'scratch'), { committed: [], distrusted: [10, 12] });
  t.like(history('commit 10', 'scratch', 'commit 2'), { committed: [2], distrusted: [10] });
});
