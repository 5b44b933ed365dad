import { SluiceError } from '@sluice/core';
import test from 'ava';
import { OptionalFile } from '../../launcher/src/coordinator/optionalFile.ts';

test('a gap is told when it begins and, with its length, when it ends', (t) => {
  const told: string[] = [];
  const file = new OptionalFile('metrics.jsonl', (text) => told.push(text));
  const written: number[] = [];
  for (let step = 1; step <= 6; step++) {
    file.write(step, () => {
      if (step >= 2 && step <= 4) throw new SluiceError('SLUICE_E_DISK_FULL', 'No space left.');
      written.push(step);
    });
  }
  t.deepEqual(written, [1, 5, 6]);
  t.deepEqual(told, [
    'No space left. Training goes on; metrics.jsonl has no lines from step 2 on.',
    'metrics.jsonl is written again at step 5; 3 lines are missing.',
  ]);
  file.close();
  t.is(told.length, 2);
});

test('a gap at the end is told when the file is closed', (t) => {
  const told: string[] = [];
  const file = new OptionalFile('metrics.jsonl', (text) => told.push(text));
  file.write(1, () => {
    throw new SluiceError('SLUICE_E_FILE_UNWRITABLE', 'Cannot write.');
  });
  file.close();
  t.is(told.at(-1), 'metrics.jsonl: 1 line is missing at its end.');
});

test('errors without a code are bugs, and are not passed over', (t) => {
  const file = new OptionalFile('metrics.jsonl', () => {});
  const bug = () => {
    throw new TypeError('a bug');
  };
  t.throws(() => file.write(1, bug), { instanceOf: TypeError });
});
