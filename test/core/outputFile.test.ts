import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { refuseUnwritable, writeOutputFile } from '@sluice/core';
import test from 'ava';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

function* parts(): Generator<string | Uint8Array> {
  yield 'ünicode ';
  yield Buffer.from('and bytes');
}

test('text and bytes are written in order, over what was there', async (t) => {
  const path = join(temporaryDirectory(t), 'a.txt');
  writeFileSync(path, 'something longer than what is written over it');
  await writeOutputFile(path, parts());
  t.is(readFileSync(path, 'utf8'), 'ünicode and bytes');
});

test('a failure or an interruption in the middle leaves what was there, and nothing else', async (t) => {
  const directory = temporaryDirectory(t);
  function* failing(): Generator<string> {
    yield 'half';
    throw new Error('no second half');
  }
  const controller = new AbortController();
  function* interrupted(): Generator<string> {
    yield 'half';
    controller.abort(new Error('interrupted'));
    yield 'the other half';
  }
  const there = join(directory, 'there.txt');
  writeFileSync(there, 'before');
  for (const path of [there, join(directory, 'new.txt')]) {
    await t.throwsAsync(writeOutputFile(path, failing()), { message: 'no second half' });
    await t.throwsAsync(writeOutputFile(path, interrupted(), controller.signal), { message: 'interrupted' });
  }
  t.deepEqual(readdirSync(directory), ['there.txt']);
  t.is(readFileSync(there, 'utf8'), 'before');
});

test('a symbolic link stays one, and leads to the new content', async (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'elsewhere'));
  const target = join(directory, 'elsewhere', 'target.txt');
  const link = join(directory, 'link.txt');
  writeFileSync(target, 'before');
  symlinkSync(target, link);
  await writeOutputFile(link, parts());
  t.true(lstatSync(link).isSymbolicLink());
  t.is(readFileSync(target, 'utf8'), 'ünicode and bytes');
  t.deepEqual(readdirSync(join(directory, 'elsewhere')), ['target.txt']);
});

if (process.platform !== 'win32') {
  test('a pipe gets the content, and stays a pipe', async (t) => {
    const pipe = join(temporaryDirectory(t), 'pipe');
    execFileSync('mkfifo', [pipe]);
    const [content] = await Promise.all([readFile(pipe, 'utf8'), writeOutputFile(pipe, parts())]);
    t.is(content, 'ünicode and bytes');
    t.true(lstatSync(pipe).isFIFO());
  });
}

if (existsSync('/dev/full')) {
  test('a full device is a coded error', async (t) => {
    await t.throwsAsync(writeOutputFile('/dev/full', parts()), { code: 'SLUICE_E_DISK_FULL' });
    t.true(lstatSync('/dev/full').isCharacterDevice());
  });
}

test('a place that takes no file is told before anything is computed', (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'file');
  writeFileSync(file, '');
  t.throws(() => refuseUnwritable(join(directory, 'no', 'a')), {
    code: 'SLUICE_E_FILE_MISSING',
    message: `There is no ${join(directory, 'no')}.`,
  });
  t.throws(() => refuseUnwritable('-'), {
    code: 'SLUICE_E_FILE_UNWRITABLE',
    message: /write \/dev\/stdout for standard output, or \.\/-\.$/,
  });
  t.throws(() => refuseUnwritable(directory), {
    code: 'SLUICE_E_FILE_UNWRITABLE',
    message: `${directory} is a directory, not a file.`,
  });
  t.throws(() => refuseUnwritable(join(file, 'a')), {
    code: 'SLUICE_E_FILE_UNWRITABLE',
    message: `${file} is no directory.`,
  });
  for (const path of [file, join(directory, 'new')]) t.notThrows(() => refuseUnwritable(path));
});
