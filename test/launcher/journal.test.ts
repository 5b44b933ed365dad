import { appendFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { smallDisk } from '../support/smallDisk.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

test('entries are read back in order, with their step and time', (t) => {
  const path = join(temporaryDirectory(t), 'journal.jsonl');
  t.deepEqual(readJournal(path), []);
  const journal = openJournal(path);
  journal.append('save', 10, { path: 'a' });
  journal.append('commit', 10, { path: 'a', weights: 'beef' });
  journal.close();
  const [save, commit] = readJournal(path);
  t.like(save, { kind: 'save', step: 10, path: 'a' });
  t.like(commit, { kind: 'commit', step: 10, weights: 'beef' });
  t.false(Number.isNaN(Date.parse(save!.time)));
});

test('messages name the run’s files from its directory', (t) => {
  const directory = temporaryDirectory(t);
  const path = join(directory, 'journal.jsonl');
  const journal = openJournal(path);
  const write = (message: string) => journal.note('saveFailed', 1, { message });
  write(`No space left while writing ${directory}/checkpoints/step-1.`);
  write(`Go on with: sluice resume ${directory}`);
  write(`${directory} is full.`);
  write(`${directory}. See ${directory}2/a, ${directory}.old and /x${directory}/b.`);
  journal.close();
  t.deepEqual(
    readJournal(path).map((entry) => 'message' in entry && entry.message),
    [
      'No space left while writing checkpoints/step-1.',
      'Go on with: sluice resume .',
      '. is full.',
      `.. See ${directory}2/a, ${directory}.old and /x${directory}/b.`,
    ],
  );
});

test('a journal that is cut at any byte reads as its whole lines, and goes on after them', (t) => {
  const path = join(temporaryDirectory(t), 'journal.jsonl');
  const journal = openJournal(path);
  for (let step = 1; step <= 3; step++) journal.append('save', step, { path: `ünïcode ${step}` });
  journal.close();
  const whole = readFileSync(path);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: whole.length }), (length) => {
      writeFileSync(path, whole);
      truncateSync(path, length);
      const lines = whole.subarray(0, length).filter((byte) => byte === 10).length;
      const before = readJournal(path);
      const again = openJournal(path);
      again.append('stop', 9, { reason: 'signal' });
      again.close();
      const after = readJournal(path);
      return (
        before.length === lines &&
        after.length === lines + 1 &&
        after.at(-1)!.kind === 'stop' &&
        after.slice(0, -1).every((entry, index) => entry.step === index + 1)
      );
    }),
  );
  t.pass();
});

test('a last line full of zeros, as a power cut leaves it, is left out', (t) => {
  const path = join(temporaryDirectory(t), 'journal.jsonl');
  const journal = openJournal(path);
  journal.append('save', 1, { path: 'a' });
  journal.close();
  appendFileSync(path, Buffer.concat([Buffer.alloc(40), Buffer.from('\n')]));
  t.deepEqual(
    readJournal(path).map(({ step }) => step),
    [1],
  );
});

test('a damaged line in the middle is refused, with its number', (t) => {
  const path = join(temporaryDirectory(t), 'journal.jsonl');
  writeFileSync(path, '{"kind":"save","step":1}\n{"kind":"sa\n{"kind":"save","step":3}\n');
  const error = t.throws(() => readJournal(path), { code: 'SLUICE_E_JOURNAL_DAMAGED' });
  t.regex(error.message, /journal\.jsonl:2 is not a journal entry: "\{/);
  t.throws(() => openJournal(path), { code: 'SLUICE_E_JOURNAL_DAMAGED' });
});

test('a journal that cannot be made or read is a coded error', (t) => {
  t.throws(() => readJournal(temporaryDirectory(t)), { code: 'SLUICE_E_FILE_MISSING' });
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, 'file'), '');
  t.throws(() => openJournal(join(directory, 'file', 'journal.jsonl')), { code: 'SLUICE_E_FILE_UNWRITABLE' });
});

test('what is noted while the disk is full is written later, before what comes after it', async (t) => {
  const disk = smallDisk(t);
  if (!disk) return t.pass('no file system can be mounted here');
  const path = join(disk.path, 'journal.jsonl');
  const journal = openJournal(path);
  disk.fill();
  // A page may have room for some lines yet.
  for (let step = 1; step <= 100; step++) journal.note('evaluate', step, { loss: step, tokens: 1 });
  t.true(readJournal(path).length < 100);
  t.throws(() => journal.append('save', 100, { path: 'a' }), { code: 'SLUICE_E_DISK_FULL' });
  disk.free();
  journal.append('save', 101, { path: 'b' });
  journal.close();
  const entries = readJournal(path);
  t.deepEqual(
    entries.map(({ step }) => step),
    Array.from({ length: 101 }, (_, i) => i + 1),
  );
  t.like(entries.at(-1), { kind: 'save', path: 'b' });
});
