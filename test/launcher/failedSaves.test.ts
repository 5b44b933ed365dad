import test from 'ava';
import { failedSaves, failingSave } from '../../launcher/src/run/failedSaves.ts';
import type { JournalEntry } from '../../launcher/src/run/journal.ts';

const entry = (kind: string, step: number, fields: object = {}) =>
  ({ kind, step, time: '', ...fields }) as unknown as JournalEntry;
const failed = (step: number, message: string) => entry('saveFailed', step, { message });

test('saves that came to nothing are told once, those that did after all are not, nor those of before a resume', (t) => {
  const journal = [
    ...[entry('start', 0), failed(2, 'old'), entry('resume', 0)],
    ...[failed(4, 'full'), entry('commit', 4), failed(6, 'full'), failed(6, 'fuller')],
  ];
  t.deepEqual(failedSaves(journal), [{ step: 6, message: 'fuller' }]);
  t.deepEqual(failedSaves([]), []);
});

test('saves fail until one comes to its end', (t) => {
  t.is(failingSave([entry('start', 0), entry('save', 2)]), undefined);
  t.deepEqual(failingSave([entry('commit', 2), failed(4, 'full'), entry('save', 6)]), {
    step: 4,
    message: 'full',
  });
  t.is(failingSave([failed(4, 'full'), entry('commit', 6)]), undefined);
});
