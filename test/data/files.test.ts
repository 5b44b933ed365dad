import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '@sluice/core';
import { prepareData } from '@sluice/data';
import test from 'ava';
import { listFiles } from '../../packages/data/src/sources/files.ts';
import { TestFolder } from './support/folder.ts';

const TEXT = { include: ['**/*.txt'], exclude: [] };

/** The names that are read, and those that are not with the reasons. */
function listed(path: string, patterns: { include: string[]; exclude: string[] } = TEXT) {
  const { files, passedOver } = listFiles(path, patterns);
  return {
    files: files.map(({ name }) => name),
    passedOver: Object.fromEntries(passedOver.map(({ name, reason }) => [name, reason])),
  };
}

test('a folder gives the files that the patterns select, and tells the others with the reason', (t) => {
  const folder = new TestFolder(t);
  const names = [
    'b.txt',
    'B.TXT',
    'a/c.txt.zst',
    'a/d.Txt.GZ',
    'é.txt',
    '\nline.txt',
    '_SUCCESS',
    'README',
    'x.pdf',
    '.h.txt',
  ];
  for (const name of [...names, '.git/a.txt', 'old/a.txt']) folder.write(`d/${name}`, 'x');
  t.deepEqual(listed(folder.at('d'), { include: ['**/*.txt'], exclude: ['old'] }), {
    files: ['\nline.txt', 'B.TXT', 'a/c.txt.zst', 'a/d.Txt.GZ', 'b.txt', 'é.txt'],
    passedOver: {
      '.git/': 'hidden',
      '.h.txt': 'hidden',
      README: 'matches no include',
      _SUCCESS: 'matches no include',
      'old/': 'exclude',
      'x.pdf': 'matches no include',
    },
  });
});

test('hidden files are read where a pattern spells their dot', (t) => {
  const folder = new TestFolder(t);
  for (const name of ['.h/a.txt', '.h/b.md', 'c.txt']) folder.write(`d/${name}`, 'x');
  t.deepEqual(listed(folder.at('d'), { include: ['.h/*.txt', '*.txt'], exclude: [] }), {
    files: ['.h/a.txt', 'c.txt'],
    passedOver: { '.h/b.md': 'hidden' },
  });
});

test('a file that is named itself is read, whatever the patterns say', (t) => {
  const folder = new TestFolder(t);
  t.deepEqual(listed(folder.write('.x.log', 'x')), { files: ['.x.log'], passedOver: {} });
});

test('links to a folder above, to the folder itself, or in a circle add nothing', (t) => {
  const folder = new TestFolder(t);
  folder.write('outside.txt', 'x');
  folder.write('d/a.txt', 'x');
  folder.write('d/sub/b.txt', 'x');
  symlinkSync('.', folder.at('d/itself'));
  symlinkSync('..', folder.at('d/sub/root'));
  symlinkSync('../..', folder.at('d/sub/above'));
  symlinkSync('/', folder.at('d/sub/everything'));
  symlinkSync('two', folder.at('d/one'));
  symlinkSync('one', folder.at('d/two'));
  const { files, passedOver } = listed(folder.at('d'));
  t.deepEqual(files, ['a.txt', 'sub/b.txt']);
  t.deepEqual(Object.keys(passedOver), [
    'itself/',
    'one',
    'sub/above/',
    'sub/everything/',
    'sub/root/',
    'two',
  ]);
});

test('what several links lead to is read once, by its own name where it has one in the folder', (t) => {
  const folder = new TestFolder(t);
  folder.write('d/z.txt', 'x');
  folder.write('blobs/1f', 'x');
  folder.write('more/e/f.txt', 'x');
  symlinkSync('z.txt', folder.at('d/a.txt'));
  symlinkSync('../blobs/1f', folder.at('d/x.txt'));
  symlinkSync('../blobs/1f', folder.at('d/y.txt'));
  symlinkSync('../more', folder.at('d/l1'));
  symlinkSync('../more/e', folder.at('d/l2'));
  t.deepEqual(listed(folder.at('d')), {
    files: ['l1/e/f.txt', 'x.txt', 'z.txt'],
    passedOver: {
      'a.txt': 'read already by another name',
      'l2/': 'read already by another name',
      'y.txt': 'read already by another name',
    },
  });
});

test('a link to nothing stops the preparation where it was to be read, and is told elsewhere', (t) => {
  const folder = new TestFolder(t);
  folder.write('d/a.txt', 'x');
  symlinkSync('gone.pdf', folder.at('d/b.pdf'));
  t.deepEqual(listed(folder.at('d')).passedOver, { 'b.pdf': 'a link to gone.pdf, which is not there' });
  symlinkSync('gone', folder.at('d/b.txt'));
  const error = t.throws(() => listed(folder.at('d')), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_FILE_MISSING');
  t.regex(error?.message ?? '', /b\.txt is a link to gone/);
  symlinkSync('b.txt', folder.at('d/a2.txt'));
  rmSync(folder.at('d/b.txt'));
  symlinkSync('a2.txt', folder.at('d/b.txt'));
  t.regex(
    t.throws(() => listed(folder.at('d')))!.message,
    /a2\.txt is a link to b\.txt, which cannot be followed \(ELOOP\)/,
  );
});

test('pipes are passed over, and a source that is one is refused', (t) => {
  const folder = new TestFolder(t);
  folder.write('d/a.txt', 'x');
  execFileSync('mkfifo', [folder.at('d/pipe.txt')]);
  t.deepEqual(listed(folder.at('d')), { files: ['a.txt'], passedOver: { 'pipe.txt': 'no regular file' } });
  const error = t.throws(() => listed(folder.at('d/pipe.txt')), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_FILE_MISSING');
});

test('a folder without a file that matches is refused with what is there', (t) => {
  const folder = new TestFolder(t);
  folder.write('d/a.pdf', 'x');
  const error = t.throws(() => listed(folder.at('d')), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_DATA_EMPTY');
  t.regex(error?.message ?? '', /there are a\.pdf \(matches no include\)/);
});

test('a file that lies there packed and unpacked is refused, unless one is excluded', (t) => {
  const folder = new TestFolder(t);
  for (const name of ['a.txt', 'a.txt.gz', 'b/a.txt']) folder.write(`d/${name}`, 'x');
  const error = t.throws(() => listed(folder.at('d')), { instanceOf: SluiceError });
  t.is(error?.code, 'SLUICE_E_DATA_TWICE');
  t.regex(error?.message ?? '', /a\.txt and a\.txt\.gz/);
  t.deepEqual(listed(folder.at('d'), { ...TEXT, exclude: ['**/*.gz'] }).files, ['a.txt', 'b/a.txt']);
});

test('a preparation tells what it read, and what it did not, and a file beside the texts makes no other corpus', async (t) => {
  const folder = new TestFolder(t);
  folder.write('d/a.jsonl', '{"text":"One."}\n{"text":null}\n{"text":" \u0085 "}\n{}\n');
  folder.write('d/notes.pdf', 'x');
  const recipe = folder.recipe({
    sources: [{ kind: 'jsonl', path: 'd', missing: 'skip' }],
    tokenizer: { kind: 'train', vocabularySize: 257 },
    validation: { fraction: 0 },
  });
  const first = await prepareData(recipe, folder.options);
  const report = {
    label: 'd',
    documents: 1,
    bytes: 4,
    nullRecords: 1,
    missingRecords: 1,
    blankDocuments: 1,
    invalidSequences: 0,
    files: ['a.jsonl'],
    passedOver: [{ name: 'notes.pdf', reason: 'matches no include' }],
  };
  t.deepEqual(first.sources, [report]);
  t.deepEqual(JSON.parse(readFileSync(join(first.directory, 'sources.json'), 'utf8')), { sources: [report] });
  folder.write('d/more.pdf', 'x');
  const again = await prepareData(recipe, folder.options);
  t.false(again.fresh);
  t.is(again.sources[0]!.passedOver.length, 2);
  const forced = await prepareData(recipe, { ...folder.options, force: true });
  t.is(forced.manifestHash, first.manifestHash);
});
