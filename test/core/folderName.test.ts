import { folderName, folderNameFault } from '@sluice/core';
import test from 'ava';

test('names of one folder pass, in any script', (t) => {
  for (const name of ['a', 'run-1', 'lr=3e-4', 'v1.2', '_x', 'my run', 'прогон 1', '試験', 'console', 'a..b'])
    t.is(folderNameFault(name), undefined, name);
});

test('paths, hidden and empty names, and what disks or shells mind are refused with the reason', (t) => {
  const refused: [string, RegExp][] = [
    ['', /empty/],
    ['.', /path/],
    ['..', /path/],
    ['../up', /path/],
    ['a/b', /path/],
    ['/tmp/x', /path/],
    ['a\\b', /path/],
    ['.hidden', /first a letter/],
    ['-rf', /first a letter/],
    [' a', /first a letter/],
    ['a ', /last no space/],
    ['a.', /last no space/],
    ['a\nb', /may hold/],
    ['a\0b', /may hold/],
    ['a:b', /may hold/],
    ['a*', /may hold/],
    ['con', /Windows/],
    ['NUL.yaml', /Windows/],
    ['x'.repeat(201), /longer than 200 bytes/],
  ];
  for (const [name, reason] of refused) {
    t.regex(folderNameFault(name) ?? '', reason, JSON.stringify(name));
    const { error } = folderName().safeParse(name);
    t.true(error?.issues[0]?.message.startsWith(JSON.stringify(name)), JSON.stringify(name));
  }
});
